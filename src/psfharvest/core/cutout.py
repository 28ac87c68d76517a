"""One cutout in memory: the archive's bytes, and what can be read from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psfharvest.core import datauri, fitscheck

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from numpy import float32
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Cutout:
    """
    A verified cutout.

    Attributes
    ----------
    uri
        Its dataURI.
    raw
        The archive's bytes: a whole FITS file.
    source
        Its row of the catalogue, as far as it is known here: column to value.
    """

    uri: str
    raw: bytes = field(repr=False)
    source: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, uri: str, raw: bytes, source_json: str) -> Cutout:
        """Make a cutout whose source comes as JSON text, or as nothing."""
        return cls(uri, raw, json.loads(source_json) if source_json else {})

    @property
    def file_name(self) -> str:
        """The archive's name for it."""
        return datauri.file_name(self.uri)

    @property
    def data(self) -> NDArray[float32]:
        """
        The pixels, shape ``(ny, nx)``, native float32; NaN where the cutout leaves the detector.

        Raises
        ------
        ValueError
            When the file holds no image (only possible for a dataURI that is no cutout's).
        """
        import numpy as np  # noqa: PLC0415 - a harvest moves bytes and needs no arrays

        image = self._image()
        kind = "i" if image.bitpix > 8 else "u" if image.bitpix > 0 else "f"
        dtype = np.dtype(f">{kind}{abs(image.bitpix) // 8}")
        pixels = np.frombuffer(self.raw, dtype, count=image.shape[0] * image.shape[1], offset=image.data_start)
        scale, zero = (float(self.header.get(card, d)) for card, d in (("BSCALE", 1), ("BZERO", 0)))
        if (scale, zero) != (1.0, 0.0):
            pixels = pixels * scale + zero
        return pixels.astype(np.float32).reshape(image.shape)

    @property
    def header(self) -> Header:
        """The image's header."""
        from astropy.io.fits import Header  # noqa: PLC0415 - heavy

        return Header.fromstring(self._image().header)

    def _image(self) -> fitscheck.Unit:
        units = fitscheck.walk(self.raw)
        image = None if isinstance(units, fitscheck.Flaw) else fitscheck.first_image(units)
        if image is None:
            raise ValueError(f"{self.uri} holds no image")
        return image
