"""Rows of a catalogue, as answers of the query service hold them: compact storage and identity of sources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from psfharvest.core.catalog.columns import COLUMNS, SOURCE_KEY, known_names
from psfharvest.core.catalog.detectors import Detector


class Unreadable(ValueError):
    """Raised when an answer is not what a query's answer looks like."""


@dataclass(frozen=True, slots=True)
class Rows:
    """
    Rows of a catalogue, column names apart from values.

    Attributes
    ----------
    columns, kinds
        Names, and ``str``, ``int``, ``float`` or ``bool`` for each.
    values
        One tuple a row, in the order of `columns`; None is null.
    """

    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    values: Sequence[tuple[Any, ...]]

    @classmethod
    def none(cls, columns: Sequence[str] | None, detector: Detector) -> Rows:
        """Return no rows, with the columns asked for, or all that are known."""
        names = tuple(columns or known_names(detector))
        return cls(names, tuple(COLUMNS[n].kind if n in COLUMNS else "str" for n in names), ())

    def __len__(self) -> int:
        return len(self.values)

    def dicts(self) -> Iterator[dict[str, Any]]:
        """Yield each row as a dict."""
        for row in self.values:
            yield dict(zip(self.columns, row, strict=True))

    def distinct(self) -> Rows:
        """
        Return the sources, each once, in ascending order of ``id``; those without an id come first.

        A source is its id, its exposure and its place: an id alone may stand for several.

        Raises
        ------
        Unreadable
            When there is no column ``id``.
        """
        if not self.values:
            return self
        if "id" not in self.columns:
            raise Unreadable("an answer without the column 'id'")
        places = [self.columns.index(name) for name in SOURCE_KEY if name in self.columns]
        order = distinct_places(tuple(row[place] for place in places) for row in self.values)
        return Rows(self.columns, self.kinds, [self.values[place] for place in order])

    def ids(self) -> list[int | None]:
        """Return each row's id; None where it is no whole number."""
        place = self.columns.index("id") if self.values else 0
        return [id_of(row[place]) for row in self.values]

    def within(self, low: int, high: int) -> Rows:
        """Return the rows whose ids lie in the closed range."""
        chosen = [
            row for row, id_ in zip(self.values, self.ids(), strict=True) if id_ is not None and low <= id_ <= high
        ]
        return self if len(chosen) == len(self) else Rows(self.columns, self.kinds, chosen)

    def plus(self, *others: Rows) -> Rows:
        """Return these rows and those of `others`, in this order of columns; kinds that differ become texts."""
        parts = [rows for rows in (self, *others) if rows.columns]
        if not parts:
            return self
        columns, kinds = parts[0].columns, list(parts[0].kinds)
        values = list(parts[0].values)
        for rows in parts[1:]:
            if rows.columns == columns:
                values += rows.values
                kinds = [common_kind(*pair) for pair in zip(kinds, rows.kinds, strict=True)]
                continue
            places = [rows.columns.index(name) if name in rows.columns else None for name in columns]
            values += [tuple(None if p is None else row[p] for p in places) for row in rows.values]
            kinds = [
                kind if place is None else common_kind(kind, rows.kinds[place])
                for kind, place in zip(kinds, places, strict=True)
            ]
        return Rows(columns, tuple(kinds), values)


def distinct_places(keys: Iterable[tuple[Any, ...]]) -> list[int]:
    """
    Return where each key stands for the first time, keys without an id first, the others by ascending id.

    The id is the first value of a key.
    """
    keys = list(keys)
    ids = [key[0] for key in keys]
    if set(map(type, ids)) <= {int} and len(set(ids)) == len(ids):
        return sorted(range(len(ids)), key=ids.__getitem__)  # the usual case, twenty times as fast
    found: dict[tuple[Any, ...], int] = {}
    for place, key in enumerate(keys):
        found.setdefault(tuple(map(_comparable, key)), place)
    order = sorted(found, key=lambda key: (id_of(key[0]) is not None, id_of(key[0]) or 0, *map(str, key)))
    return [found[key] for key in order]


def common_kind(one: str, other: str) -> str:
    """Return the kind that holds values of both kinds."""
    if one == other:
        return one
    return "float" if {one, other} == {"int", "float"} else "str"


def id_of(value: Any) -> int | None:
    """Return a source's id, which may have come as a text or a float; None where it is no whole number."""
    try:
        if isinstance(value, (int, str)):
            return int(value)
    except ValueError:
        pass  # "7.0" is a whole number, too
    try:
        number = float(value)
        return int(number) if number == int(number) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _comparable(value: Any) -> Any:
    return None if value != value else value  # noqa: PLR0124 - NaN alone differs from itself


NO_ROWS = Rows((), (), ())
