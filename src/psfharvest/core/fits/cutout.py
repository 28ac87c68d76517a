"""One cutout in memory: the archive's bytes, and what can be read from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from psfharvest.core.catalog import detectors
from psfharvest.core.catalog.detectors import RAW_SUFFIXES, Detector
from psfharvest.core.fits import celestial, datauri, noise, pixels, thumbnail
from psfharvest.core.html_table import html_table

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.nddata import CCDData
    from astropy.wcs import WCS
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

        Where the archive cut the image off at the detector's edge, this is the whole frame that was asked for all
        the same, so that `center` holds.

        Raises
        ------
        ValueError
            When the file holds no image (only possible for a dataURI that is no cutout's).
        """
        image = pixels.image(self.raw, datauri.parts_of(self.uri))
        if image is None:
            raise ValueError(f"{self.uri} holds no image")
        return image

    @property
    def header(self) -> Header:
        """The image's header; its reference pixel is that of `data`."""
        from astropy.io.fits import Header  # noqa: PLC0415 - heavy

        image = pixels.find_image(self.raw)
        if image is None:
            raise ValueError(f"{self.uri} holds no image")
        header, asked = Header.fromstring(image.header), datauri.parts_of(self.uri)
        for axis in range(header["NAXIS"], 2, -1):  # of length 1: there are two in `data`
            del header[f"NAXIS{axis}"]
        header["NAXIS"], (header["NAXIS2"], header["NAXIS1"]) = 2, image.shape
        at = None if asked is None else pixels.crop_offset(image, asked)
        if at is not None and asked is not None:
            for axis, first in enumerate(at, 1):
                header[f"NAXIS{axis}"] = asked.size_px
                if f"CRPIX{axis}" in header:
                    header[f"CRPIX{axis}"] += first
        return header

    @property
    def center(self) -> tuple[float, float] | None:
        """The star's place ``(x, y)`` within the cutout, 0-based, in pixels; None where the dataURI hides it."""
        parts = datauri.parts_of(self.uri)
        return None if parts is None else parts.center

    @property
    def wcs(self) -> WCS:
        """
        The celestial WCS, with SIP polynomials where the header has them.

        The look-up corrections that WFC3/UVIS and WFPC2 headers name are left out, since their tables are not in
        the cutout. What is neglected is at most ``CPERRj + D2IMERRj`` pixels on axis j, as far as the header says
        (about 0.1 pixel, 4 milliarcseconds, on UVIS).

        Raises
        ------
        ValueError
            When the header has no celestial coordinates, or the file no image.
        """
        return celestial.wcs(self.header)

    @property
    def unit(self) -> str:
        """The pixels' unit: ``electron``, ``electron / s`` or ``adu``, from BUNIT or else from the suffix."""
        bunit = str(self.header.get("BUNIT", "")).strip().upper()
        if bunit in noise.UNITS:
            return noise.UNITS[bunit]
        parts = datauri.parse(self.uri)
        if parts is None or parts.suffix in RAW_SUFFIXES:
            return noise.COUNTS
        return self._detector.calibrated_unit

    @property
    def sigma(self) -> NDArray[float32]:
        """
        The standard deviation of each pixel, shape ``(ny, nx)``, in the unit of `data`; NaN where `data` is.

        The model is ``sqrt(max(signal, 0) + read_noise**2)`` in electrons; see `psfharvest.core.fits.noise` for
        gains, read noises and their sources.

        Raises
        ------
        ValueError
            When the pixels are a rate and the catalogue row has no ``exptime``.
        """
        parts = datauri.parse(self.uri)
        return noise.sigma(
            self.data,
            self.unit,
            self._detector.electronics,
            exptime_s=self.source.get("exptime"),
            is_raw=parts is not None and parts.suffix in RAW_SUFFIXES,
            sky_electrons=max(0.0, float(self.source.get("sky") or 0.0)),
        )

    def to_ccddata(self) -> CCDData:
        """
        Return the cutout as astropy's ``CCDData``: unit, WCS, NaN mask, `sigma` as uncertainty, header as meta.

        Raises
        ------
        ValueError
            As `sigma` does.
        """
        import numpy as np  # noqa: PLC0415 - a harvest moves bytes and needs no arrays
        from astropy.nddata import CCDData, StdDevUncertainty  # noqa: PLC0415 - heavy

        data, header = self.data, self.header
        return CCDData(
            data,
            unit=self.unit,
            wcs=celestial.wcs(header) if "CTYPE1" in header else None,
            mask=~np.isfinite(data),
            uncertainty=StdDevUncertainty(self.sigma),
            meta=header,
        )

    @property
    def _detector(self) -> Detector:
        """The detector, from the dataURI: of WFC3's filters, those of the infrared channel are its own."""
        parts = datauri.parse(self.uri)
        return detectors.UVIS if parts is None else detectors.of_cutout(parts.instrument, parts.filter)

    def _repr_html_(self) -> str:
        """Return a small picture and what is known of the star, for notebooks."""
        image = pixels.image(self.raw, datauri.parts_of(self.uri))
        shape = "no image" if image is None else f"{image.shape[1]} x {image.shape[0]} px"
        facts = [(name, str(self.source[name])) for name in SHOWN if self.source.get(name) is not None]
        picture = "" if image is None else thumbnail.img(image, width_px=PICTURE_PX)
        return (
            f'<div style="display:flex;gap:1em;align-items:center">{picture}<div>'
            f"<b>{escape(self.file_name)}</b><br>{shape}, {len(self.raw):,} bytes{html_table(facts)}</div></div>"
        )
