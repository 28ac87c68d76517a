"""One cutout in memory: the archive's bytes, and what can be read from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from psfharvest.core.fits import datauri, pixels, thumbnail

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from numpy import float32
    from numpy.typing import NDArray

SHOWN = ("id", "rootname", "filter", "filter_1", "chip", "psf_x_center", "psf_y_center", "psf_flux", "qfit")
"""Columns of the catalogue that a notebook shows beside the picture."""
PICTURE_PX = 153


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
        image = pixels.image(self.raw)
        if image is None:
            raise ValueError(f"{self.uri} holds no image")
        return image

    @property
    def header(self) -> Header:
        """The image's header."""
        from astropy.io.fits import Header  # noqa: PLC0415 - heavy

        image = pixels.find_image(self.raw)
        if image is None:
            raise ValueError(f"{self.uri} holds no image")
        return Header.fromstring(image.header)

    @property
    def center(self) -> tuple[float, float] | None:
        """The star's place ``(x, y)`` within the cutout, 0-based, in pixels; None where the dataURI hides it."""
        parts = datauri.parse(self.uri)
        return None if parts is None else parts.center

    def _repr_html_(self) -> str:
        """Return a small picture and what is known of the star, for notebooks."""
        image = pixels.image(self.raw)
        shape = "no image" if image is None else f"{image.shape[1]} x {image.shape[0]} px"
        facts = [(name, self.source[name]) for name in SHOWN if self.source.get(name) is not None]
        rows = "".join(f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>" for name, value in facts)
        picture = "" if image is None else thumbnail.img(image, width_px=PICTURE_PX)
        return (
            f'<div style="display:flex;gap:1em;align-items:center">{picture}<div>'
            f"<b>{escape(self.file_name)}</b><br>{shape}, {len(self.raw):,} bytes<table>{rows}</table></div></div>"
        )
