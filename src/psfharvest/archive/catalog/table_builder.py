"""
A query's answers as one astropy table, gathered column by column: an answer's rows are let go of once they are in.

Types and fillers are those that astroquery gives, so that a table from here equals one from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from psfharvest.archive.catalog.rows import Rows, Unreadable, common_kind, distinct_places
from psfharvest.core.catalog.columns import COLUMNS, SOURCE_KEY

if TYPE_CHECKING:
    import numpy as np
    from astropy.table import MaskedColumn, Table
    from numpy.typing import NDArray


class _Chunk(NamedTuple):
    """Values of one column in one answer; `nulls` says where a filler stands for one, None: nowhere."""

    kind: str
    data: NDArray[Any]
    nulls: NDArray[np.bool_] | None


class TableBuilder:
    """
    Gather rows of a catalogue, and make a table of them.

    The first answer with columns says which there are, and in which order. Kinds that differ become the kind that
    holds both, texts at last.
    """

    def __init__(self) -> None:
        self._chunks: dict[str, list[_Chunk]] = {}
        self._n_rows = 0
        self._may_repeat = False

    def __len__(self) -> int:
        return self._n_rows

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that came."""
        return tuple(self._chunks)

    def add(self, rows: Rows, may_repeat: bool = False) -> None:
        """Take the rows of an answer, which may repeat sources that came before; what it lacks is null."""
        self._may_repeat |= may_repeat
        if not rows.columns:
            return
        if not self._chunks:
            self._chunks = {name: [] for name in rows.columns}
        places = {name: place for place, name in enumerate(rows.columns)}
        for name, chunks in self._chunks.items():
            place = places.get(name)
            if place is None:
                chunks.append(_chunk([None] * len(rows), chunks[0].kind))
            else:
                chunks.append(_chunk([row[place] for row in rows.values], rows.kinds[place]))
        self._n_rows += len(rows)

    def table(self, columns: Sequence[str] | None = None) -> Table:
        """
        Return the table, which takes the columns away from here.

        Where sources may have come again, each appears once, in ascending order of ``id``.
        Null texts become ``""``, null integers -999 and null booleans False, all masked; null floats become an
        unmasked NaN. Known columns have their units and descriptions.

        Raises
        ------
        Unreadable
            When a column is absent.
        """
        from astropy.table import Table  # noqa: PLC0415 - heavy

        for name in columns or ():
            if name not in self._chunks:
                raise Unreadable(f"the archive left out a column: {name!r}")
        order = self._distinct_places() if self._may_repeat and len(self) else None
        table = Table(masked=True)
        for name in self.columns if columns is None else columns:
            table.add_column(_column(name, self._chunks.pop(name), order), copy=False)
        return table

    def _distinct_places(self) -> list[int]:
        if "id" not in self._chunks:
            raise Unreadable("an answer without the column 'id'")
        names = [name for name in SOURCE_KEY if name in self._chunks]
        return distinct_places(zip(*(_plain(self._chunks[name]) for name in names), strict=True))


def _chunk(values: list[Any], kind: str) -> _Chunk:
    import numpy as np  # noqa: PLC0415 - heavy

    from psfharvest.core.catalog.table_column import FILLERS, as_array  # noqa: PLC0415 - imports numpy

    if None not in values:
        return _Chunk(kind, as_array(values, kind), None)
    filler = FILLERS[kind]
    nulls = np.fromiter((value is None for value in values), np.bool_, len(values))
    return _Chunk(kind, as_array([filler if value is None else value for value in values], kind), nulls)


def _as_kind(chunk: _Chunk, kind: str) -> NDArray[Any]:
    """Return the values as another kind has them."""
    from psfharvest.core.catalog.table_column import CASTS, FILLERS, as_array  # noqa: PLC0415 - imports numpy

    if chunk.kind == kind:
        return chunk.data
    cast: Callable[[Any], Any] = CASTS[kind]
    values = _plain([chunk])
    return as_array([FILLERS[kind] if value is None else cast(value) for value in values], kind)


def _plain(chunks: Sequence[_Chunk]) -> list[Any]:
    """Return the values as Python's; None is null."""
    found: list[Any] = []
    for chunk in chunks:
        values = chunk.data.tolist()
        if chunk.nulls is not None:
            for place in chunk.nulls.nonzero()[0].tolist():
                values[place] = None
        found += values
    return found


def _column(name: str, chunks: list[_Chunk], order: Sequence[int] | None) -> MaskedColumn:
    import numpy as np  # noqa: PLC0415 - heavy

    from psfharvest.core.catalog.table_column import FILLERS, masked_column  # noqa: PLC0415 - imports numpy

    kind = chunks[0].kind
    for chunk in chunks:
        kind = common_kind(kind, chunk.kind)
    data = np.concatenate([_as_kind(chunk, kind) for chunk in chunks])
    mask: Any = data == FILLERS[kind] if kind in ("str", "int") else False
    if kind == "bool":
        empty = np.zeros(0, np.bool_)
        nulls = [np.zeros(len(c.data), np.bool_) if c.nulls is None else c.nulls for c in chunks]
        mask = np.concatenate([empty, *nulls])
    if order is not None:
        data, mask = data[order], mask if mask is False else mask[order]
    known = COLUMNS.get(name)
    return masked_column(name, data, mask, *((known.unit, known.description) if known else ()))
