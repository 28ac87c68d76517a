"""
The cutout service: an order becomes the bytes of a FITS file, or one of fitscut's complaints.

Rules: the same order gives the same bytes for ever; both download paths serve these bytes; a cutout
always has the size that was asked for, and NaN where the detector ends.
"""

import zlib
from dataclasses import replace
from hashlib import blake2b
from typing import Final

import numpy as np

from psfharvest.simulator.catalog.catalogue import Catalogue
from psfharvest.simulator.catalog.table import Table
from psfharvest.simulator.oddities import bodies
from psfharvest.simulator.oddities.products import lacks_products
from psfharvest.simulator.settings import Settings
from psfharvest.simulator.sky.exposures import FILTERS
from psfharvest.simulator.sky.geometry import frame_shape
from psfharvest.simulator.sky.header import BLOCK, Labels, header
from psfharvest.simulator.sky.order import NO_OVERLAP, FitscutError, Order, parse_uri
from psfharvest.simulator.sky.scene import Star, Window, draw

_SUFFIXES: Final = {"UVIS": ("raw", "flt", "flc"), "IR": ("raw", "flt"), "WFPC2": ("d0m", "c0m")}
_EXTENSIONS: Final = {"UVIS": 6, "IR": 5, "WFPC2": 4}
_RAW: Final = ("raw", "d0m")
_STATIC: Final = "i0static0"


class Fitscut:
    """Renders cutouts."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self._catalogue = catalogue
        self._settings = settings
        self._static: dict[tuple[int, int], bytes] = {}

    def render(self, uri: str) -> bytes:
        """
        Give what a dataURI stands for.

        Parameters
        ----------
        uri
            A cutout's dataURI, or one of the further products.

        Raises
        ------
        FitscutError
            Where there is no such thing.
        """
        product = self._settings.products.get(uri)
        return product if product is not None else self.cutout(parse_uri(uri))

    def cutout(self, order: Order) -> bytes:
        """
        Give the FITS file of one cutout.

        Raises
        ------
        FitscutError
            Where there is no such cutout.
        """
        found = self._found(order)
        if found is None:
            return self.static(order.nx, order.ny)
        table, exposure, window = found
        is_raw = order.suffix in _RAW
        key = _hash(order.key)
        star, dead_pixel = self._star(order, table, key)
        labels = Labels(
            detector=table.detector,
            rootname=order.rootname,
            chip=_chip(table, exposure, order.extension),
            is_raw=is_raw,
            nx=order.nx,
            ny=order.ny,
            x0=window.x0,
            y0=window.y0,
            key=key,
            is_named=self._settings.naming_cards,
        )
        if "edge_crop" in self._settings.oddities:
            labels, crop = _cropped(labels, window)
        else:
            crop = (slice(None), slice(None))
        pixels = draw(star, order.x, order.y, window, is_raw=is_raw, dead_pixel=dead_pixel, key=key)
        pixels = pixels[crop]
        if self._settings.zero_is_nan and dead_pixel:
            pixels[pixels == 0] = np.nan
        body = _file(header(labels), pixels.astype(">f4").tobytes())
        return bodies.changed(body, self._settings.oddities, order) if self._settings.oddities else body

    def check(self, uri: str) -> None:
        """
        Make sure that a dataURI stands for something, without drawing it.

        Parameters
        ----------
        uri
            A cutout's dataURI, or one of the further products.

        Raises
        ------
        FitscutError
            Where there is no such thing.
        """
        if uri not in self._settings.products:
            self._found(parse_uri(uri))

    def static(self, nx: int, ny: int) -> bytes:
        """Give the one body that static mode serves for a size."""
        body = self._static.get((nx, ny))
        if body is None:
            labels = Labels("UVIS", _STATIC, 2, False, nx, ny, 100, 100, 0, is_named=False)
            star = Star("UVIS", "F606W", flux=150_000, sky=40, n_sat_pixels=0)
            window = Window(100, 100, (ny, nx), (2_051, 4_096))
            x, y = 100 + nx // 2 + 0.25, 100 + ny // 2 - 0.25
            pixels = draw(star, x, y, window, is_raw=False, dead_pixel=False, key=7)
            body = _file(header(labels), pixels.astype(">f4").tobytes())
            if len(self._static) < 64:  # a client that asks for all sizes must not fill memory
                self._static[nx, ny] = body
        return body

    def other(self, uri: str) -> bytes:
        """Give a whole cutout of the same shape that another exposure's header names, for a fault."""
        return self.renamed(self.render(uri), parse_uri(uri))

    @staticmethod
    def renamed(body: bytes, order: Order) -> bytes:
        """Make a cutout's header name another exposure than the one it shows."""
        letters = order.rootname.encode()
        stranger = letters[:4] + bytes([ord("0") + (letters[4] + 1) % 10]) + letters[5:]
        return body.replace(b"'" + letters, b"'" + stranger)

    def reshaped(self, uri: str, size: int | None) -> bytes:
        """
        Give the same cutout in another size, for a fault.

        Parameters
        ----------
        uri
            The dataURI that was asked for.
        size
            Width and height in pixels; None is two less than asked.
        """
        order = parse_uri(uri)
        side = size or order.nx - 2
        return self.cutout(replace(order, nx=side, ny=side))

    def _found(self, order: Order) -> tuple[Table, int, Window] | None:
        """Give an order's exposure and the window on it; None where static mode does not look."""
        self._refuse_absurd(order)
        if self._settings.static:
            return None
        table, exposure = self._find(order)
        window = Window(
            x0=_corner(order.x, order.nx),
            y0=_corner(order.y, order.ny),
            shape=(order.ny, order.nx),
            frame=frame_shape(table.detector, order.suffix in _RAW, table.raw_border),
        )
        if not window.overlaps:
            raise FitscutError("no_overlap", NO_OVERLAP)
        return table, exposure, window

    def _refuse_absurd(self, order: Order) -> None:
        if order.nx <= 0 or order.ny <= 0:
            raise FitscutError("no_overlap", NO_OVERLAP)
        if max(order.nx, order.ny) > self._settings.max_size:
            raise FitscutError("bad_request", f"Requested size {order.nx} x {order.ny} is too large")

    def _find(self, order: Order) -> tuple[Table, int]:
        missing = FitscutError("missing", f"{order.rootname}_{order.suffix}.fits: No such file or directory")
        found = self._catalogue.exposure(order.rootname)
        if found is None:
            raise missing
        detector = found[0].detector
        folder = "WFPC2PSF" if detector == "WFPC2" else "WFC3PSF"
        if order.instrument not in {None, folder} or order.suffix not in _SUFFIXES[detector]:
            raise missing
        if not 1 <= order.extension <= _EXTENSIONS[detector]:
            raise missing
        if lacks_products(order.rootname, self._settings.oddities):
            raise missing
        if order.suffix == "flc" and _fraction(order.rootname.encode()) < self._settings.no_flc:
            raise missing
        return found

    def _star(self, order: Order, table: Table, key: int) -> tuple[Star, bool]:
        source = table.source(order.source_id) if order.source_id is not None else None
        if source is None:
            chance = _fraction(order.rootname.encode())
            names = FILTERS[table.detector]
            return Star(table.detector, names[int(chance * len(names))], 10 ** (4 + chance), 20.0, 0), False
        dead_pixel = not source.is_real and key % 65_536 < self._settings.dead_pixels * 65_536
        return (
            Star(table.detector, source.filter, source.flux, source.sky, source.n_sat_pixels),
            dead_pixel,
        )


def _cropped(labels: Labels, window: Window) -> tuple[Labels, tuple[slice, slice]]:
    """Give the labels and the part of a cutout that lies on the detector."""
    height, width = window.frame
    left, low = max(0, -window.x0), max(0, -window.y0)
    right, high = min(labels.nx, width - window.x0), min(labels.ny, height - window.y0)
    x0, y0 = window.x0 + left, window.y0 + low
    return replace(labels, nx=right - left, ny=high - low, x0=x0, y0=y0), (slice(low, high), slice(left, right))


def _corner(centre: float, side: int) -> int:
    return int(np.floor(centre - side // 2 + 0.5))


def _chip(table: Table, exposure: int, extension: int) -> int:
    only = int(table.exposures.chip[exposure])
    if table.detector == "UVIS":
        return only or (1 if extension >= 4 else 2)
    return 1 if table.detector == "IR" else extension


def _hash(text: bytes) -> int:
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def _fraction(text: bytes) -> float:
    return zlib.crc32(text) / 2**32


def _file(head: bytes, data: bytes) -> bytes:
    return b"".join((head, data, b"\0" * (-len(data) % BLOCK)))
