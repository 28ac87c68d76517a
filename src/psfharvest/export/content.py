"""What is exported: which cutouts, which columns of which type, and all of it in batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psfharvest.core.advice import repair
from psfharvest.core.catalog.table_column import FILLERS
from psfharvest.core.errors import BadInput, LocalError
from psfharvest.core.fits import acceptance, datauri, pixels
from psfharvest.core.fits.cutout import Cutout
from psfharvest.store.column_types import ColumnTypes, column
from psfharvest.store.read.harvest import Harvest
from psfharvest.store.read.search import FoundCutout
from psfharvest.store.row_schema import SKY, sky_columns

BATCH_SIZE = 256
MASK = "_mask"
"""Ending of the name of the boolean array that says where a column is null."""
LEFT_OUT = ("state", "location", "attempts", "reason", "detail", "quirk")
"""Columns that say how a cutout came, not what it is."""


@dataclass(frozen=True, slots=True)
class ExportBatch:
    """
    Some cutouts of one size.

    `rows` are metadata, one mapping a cutout; `headers` the header texts; `images` has shape ``(n, size, size)``.
    """

    rows: Sequence[Mapping[str, Any]]
    headers: Sequence[str]
    images: NDArray[np.float32]

    def column(self, name: str, kind: str) -> tuple[list[Any], list[bool]]:
        """Return one metadata column as values of its kind (nulls are astroquery's fillers), and its null mask."""
        values = column(self.rows, name, kind)
        return [FILLERS[kind] if value is None else value for value in values], [value is None for value in values]


class Content:
    """
    The cutouts to export.

    Parameters
    ----------
    harvests
        Where they are; of several, each row has a column ``harvest``, the folder.
    sizes
        Only these sides, in pixels; none is all.
    progress
        Called with the number of cutouts read and of all.
    with_sky
        Whether rows have the columns of `psfharvest.store.row_schema.SKY`.

    Raises
    ------
    BadInput
        When there is nothing to export.
    """

    def __init__(
        self,
        harvests: Sequence[Harvest],
        sizes: Sequence[int],
        progress: Callable[[int, int], None],
        *,
        with_sky: bool = False,
    ) -> None:
        self._with_sky = with_sky
        there: Counter[int | None] = Counter()
        for harvest in harvests:
            there.update(harvest.sizes())
        known = sorted(size for size in there if size is not None and (not sizes or size in sizes))
        self.counts = {size: there[size] for size in known}
        self.n_left_out = there[None]
        if not self.counts:
            has = ", ".join(f"{n:,} of {size} px" for size, n in there.items() if n) or "none that is done"
            folders = ", ".join(str(harvest.folder) for harvest in harvests)
            raise BadInput(f"{folders}: no cutout to export; it has {has}")
        self._harvests = harvests
        self.provenance = [harvest.provenance for harvest in harvests]
        self._progress = progress
        self._n_read = 0
        self._kinds: dict[int, ColumnTypes] = {}
        self._header_bytes: dict[int, int] = {}
        for size in self.counts:
            self._scan(size)

    def kinds(self, size: int) -> dict[str, str]:
        """Return the metadata columns of one size, each with its kind."""
        return self._kinds[size].all() | (SKY if self._with_sky else {})

    def width(self, size: int, name: str) -> int:
        """Return how many characters the longest text of a column has."""
        return self._kinds[size].width(name)

    def has_null(self, size: int, name: str) -> bool:
        """Return whether a row of one size lacks a value of the column."""
        return self._kinds[size].has_null(name)

    def header_bytes(self, size: int) -> int:
        """Return how many bytes the longest header of one size may have."""
        return self._header_bytes[size]

    def batches(self, size: int) -> Iterator[ExportBatch]:
        """
        Yield all cutouts of one size, in the order of asking.

        Raises
        ------
        LocalError
            When a cutout is not where the manifest says, or is not of that size.
        """
        rows: list[Mapping[str, Any]] = []
        headers: list[str] = []
        images: list[NDArray[np.float32]] = []
        total = sum(self.counts.values())
        for chosen, found in self._found(size):
            raw = chosen.read(found).raw
            header, image = pixels.parts(raw, datauri.parts_of(found.ours["uri"]))
            if image is not None and found.ours["quirk"] == acceptance.WRONG_SHAPE:
                image = pixels.framed(image, size)
            if image is None or image.shape != (size, size):
                raise LocalError(
                    f"{found.ours['uri']}: no image of {size} x {size} px; run: {repair(chosen.folder)}"
                )
            sky = sky_columns(Cutout(found.ours["uri"], raw)) if self._with_sky else {}
            rows.append({**self._row(chosen, found), **sky})
            headers.append(header)
            images.append(image)
            if len(rows) == BATCH_SIZE:
                yield self._batch(rows, headers, images, total)
                rows, headers, images = [], [], []
        if rows:
            yield self._batch(rows, headers, images, total)

    def _batch(self, rows: Any, headers: Any, images: Any, total: int) -> ExportBatch:
        self._n_read += len(rows)
        self._progress(self._n_read, total)
        return ExportBatch(rows, headers, np.stack(images))

    def _scan(self, size: int) -> None:
        kinds, longest = ColumnTypes(), 0
        for chosen, found in self._found(size):
            kinds.add(self._row(chosen, found))
            longest = max(longest, found.ours["size_bytes"])
        self._kinds[size] = kinds
        self._header_bytes[size] = max(80, longest - 4 * size * size)

    def _found(self, size: int) -> Iterator[tuple[Harvest, FoundCutout]]:
        for harvest in self._harvests:
            chosen = harvest.select(size_px=size)
            for found in chosen.rows():
                yield chosen, found

    def _row(self, harvest: Harvest, found: FoundCutout) -> dict[str, Any]:
        row = {**found.source, **found.ours}
        where = {"harvest": str(harvest.folder)} if len(self._harvests) > 1 else {}
        return {**{name: value for name, value in row.items() if name not in LEFT_OUT}, **where}
