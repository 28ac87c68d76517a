"""What is exported: which cutouts, which columns of which type, and all of it in batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from psfharvest.core.advice import repair
from psfharvest.core.catalog.table_column import CASTS, FILLERS, as_array
from psfharvest.core.errors import BadInput, LocalError
from psfharvest.core.fits import accepted_deviations, datauri, pixels
from psfharvest.core.fits.cutout import Cutout
from psfharvest.export import plain_text
from psfharvest.export.names import exported_names
from psfharvest.store.column_types import ColumnTypes
from psfharvest.store.read.column_builder import part_of
from psfharvest.store.read.harvest import Harvest
from psfharvest.store.row_schema import SKY, sky_columns

BATCH_SIZE = 256
FILL_INT = -(2**63)
"""Stands for a null integer: no column of the catalogues has it as a value."""
MASK = "_mask"
"""Ending of the name of the boolean array that says where a column is null."""
OWN = ("images", "image", "header", "provenance")
"""Names that no column has in an export."""
HARVEST = "harvest"
"""Column of the folder, where several harvests are exported."""
LEFT_OUT = ("state", "location", "attempts", "reason", "detail", "quirk")
"""Columns that say how a cutout came, not what it is."""


Values = tuple[NDArray[Any], NDArray[np.bool_] | None]
"""Of a column: its values, and which of them are null."""


@dataclass(frozen=True, slots=True)
class ExportBatch:
    """
    Some cutouts of one size.

    `columns` has by name the values and which are null (None for none of them); `headers` are the header texts;
    `images` has shape ``(n, size, size)``.
    """

    columns: Mapping[str, Values]
    headers: Sequence[str]
    images: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.headers)

    def column(self, name: str, kind: str, null_int: int = FILL_INT) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return one metadata column as values of its kind (nulls are `null_int` or a filler), and its mask."""
        filler = null_int if kind == "int" else FILLERS[kind]
        if name not in self.columns:
            return np.array([filler] * len(self)), np.ones(len(self), np.bool_)
        values, nulls = self.columns[name]
        values = as_array(values, kind)
        if nulls is None:
            return values, np.zeros(len(self), np.bool_)
        return np.where(nulls, filler, values) if nulls.any() else values, nulls


class Content:
    """
    The cutouts to export.

    Columns have the catalogue's names, but for those that an export needs for itself (`exported_names`).

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
            has = ", ".join(f"{n:,} of {size} px" for size, n in there.items() if n)
            folders = ", ".join(str(harvest.folder) for harvest in harvests)
            why = f"it has {has}" if has else "none is done, or the selection has none"
            raise BadInput(f"{folders}: no cutout to export; {why}" if folders else "name at least one harvest")
        self._harvests = harvests
        self.provenance = [harvest.provenance for harvest in harvests]
        self._progress = progress
        self._n_read = 0
        self._kinds: dict[int, ColumnTypes] = {}
        self._header_bytes: dict[int, int] = {}
        for size in self.counts:
            self._scan(size)
        names = dict.fromkeys(name for kinds in self._kinds.values() for name in kinds.all())
        self._names = exported_names(names, self._taken())
        self._catalogue_names = {exported: name for name, exported in self._names.items()}

    def kinds(self, size: int) -> dict[str, str]:
        """Return the metadata columns of one size, each with its kind."""
        found = {self._names[name]: kind for name, kind in self._kinds[size].all().items()}
        return found | (SKY if self._with_sky else {})

    def width(self, size: int, name: str) -> int:
        """Return how many characters the longest text of a column has."""
        return self._kinds[size].width(self._catalogue_names[name])

    def has_null(self, size: int, name: str) -> bool:
        """Return whether a row of one size lacks a value of the column."""
        return self._kinds[size].has_null(self._catalogue_names[name])

    def has_mask(self, size: int, name: str) -> bool:
        """Return whether nulls of the column need a mask: no text or logical value can stand for one."""
        return self.kinds(size)[name] in ("str", "bool") and self.has_null(size, name)

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
        total = sum(self.counts.values())
        for harvest, page, n in self._pages(size):
            chosen = {self._names[name]: page[name] for name in page if name not in LEFT_OUT}
            where = [page[name][0].tolist() for name in ("uri", "location", "size_bytes")]
            quirks = page["quirk"][0].tolist() if "quirk" in page else [""] * n
            for start in range(0, n, BATCH_SIZE):
                part = slice(start, min(start + BATCH_SIZE, n))
                read = [
                    self._read(harvest, uri, location, size_bytes, quirk, size)
                    for uri, location, size_bytes, quirk in zip(
                        *(values[part] for values in where), quirks[part], strict=True
                    )
                ]
                columns = {name: _cut(values, part) for name, values in chosen.items()}
                if self._with_sky:
                    columns |= _sky_columns([cutout.uri for cutout in read], [cutout.raw for cutout in read])
                self._n_read += len(read)
                self._progress(self._n_read, total)
                yield ExportBatch(
                    columns, [cutout.header for cutout in read], np.stack([cutout.image for cutout in read])
                )

    def _read(
        self, harvest: Harvest, uri: str, location: str, size_bytes: int, quirk: str, size: int
    ) -> _ReadCutout:
        raw = harvest.stored_bytes(location, size_bytes)
        header, image = pixels.plain_parts(raw, size) or pixels.parts(raw, datauri.parts_of(uri))
        if image is not None and quirk == accepted_deviations.WRONG_SHAPE:
            image = pixels.framed(image, size)
        if image is None or image.shape != (size, size):
            raise LocalError(f"{uri}: no image of {size} x {size} px; run: {repair(harvest.folder)}")
        return _ReadCutout(uri, raw, header, image)

    def _taken(self) -> set[str]:
        """Return the names that are not to be the catalogue's columns'."""
        sizes = {text for size in self.counts for text in (str(size), f"image_{size}")}
        return {*OWN, *sizes, *(SKY if self._with_sky else ())}

    def _scan(self, size: int) -> None:
        kinds, longest = ColumnTypes(), 0
        for _, page, n in self._pages(size):
            kinds.count(n)
            longest = max(longest, int(page["size_bytes"][0].max()))
            for name in (name for name in page if name not in LEFT_OUT):
                values, nulls = page[name]
                n_values = n if nulls is None else n - int(nulls.sum())
                types = {CASTS[_kind(values)]} if n_values else set()
                kinds.see(name, types, n_values, _width(values))
        self._kinds[size] = kinds
        self._header_bytes[size] = max(80, longest - 4 * size * size)

    def _pages(self, size: int) -> Iterator[tuple[Harvest, Mapping[str, Values], int]]:
        """Yield all cutouts of one size, some thousand at once: their harvest, columns, and how many they are."""
        for harvest in self._harvests:
            chosen = harvest.select(size_px=size)
            for page in chosen.column_pages():
                n = len(page["uri"][0])
                if len(self._harvests) > 1:
                    if HARVEST in page:
                        page[f"{HARVEST}_"] = page[HARVEST]
                    page[HARVEST] = np.full(n, str(harvest.folder)), None
                yield chosen, page, n


class _ReadCutout(NamedTuple):
    uri: str
    raw: bytes
    header: str
    image: NDArray[np.float32]


def _cut(values: Values, part: slice) -> Values:
    return values[0][part], None if values[1] is None else values[1][part]


def _sky_columns(uris: Sequence[str], bodies: Sequence[bytes]) -> dict[str, Values]:
    found = [sky_columns(Cutout(uri, raw)) for uri, raw in zip(uris, bodies, strict=True)]
    parts = {name: part_of([one[name] for one in found], kind) for name, kind in SKY.items()}
    return {name: (part.values, part.mask) for name, part in parts.items()}


def _kind(values: NDArray[Any]) -> str:
    return {"i": "int", "f": "float", "b": "bool"}.get(values.dtype.kind, "str")


def _width(values: NDArray[Any]) -> int:
    """Return how many characters the longest text has, also as formats of ASCII only have it."""
    if values.dtype.kind != "U":
        return 1
    texts = values.tolist()
    return (
        values.dtype.itemsize // 4
        if plain_text.is_plain(texts)
        else max(len(plain_text.escaped(text)) for text in texts)
    )
