"""The question that a request asks of a folder's rows, in `Query`'s words; and the same for Python and a shell."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from psfharvest.core.catalog import columns as known
from psfharvest.core.catalog import criterion
from psfharvest.core.catalog.criterion import AnyOf, Criterion
from psfharvest.core.catalog.detectors import detector
from psfharvest.core.catalog.query import refuse_twice
from psfharvest.core.errors import BadQuery
from psfharvest.serve.orders import Selection
from psfharvest.serve.parameters import Parameter, text, word

CRITERIA_MAX = 20
PARAMETERS: Mapping[str, Parameter] = {
    "where": Parameter(text(2000), times=CRITERIA_MAX),
    "sort": Parameter(text(100), ""),
    "order": Parameter(word("asc", "desc"), "asc"),
}
"""``where`` is a criterion as on the command line, and may be repeated."""


def of(given: Mapping[str, Any]) -> Selection:
    """
    Return the selection that parameters ask for.

    Raises
    ------
    BadQuery
        When a criterion cannot be read, or a column has two.
    """
    criteria = tuple(criterion.parse(one, None) for one in given["where"])
    refuse_twice(criteria)
    return Selection(criteria, given["sort"], given["order"] == "desc")


def words(selection: Selection) -> list[str]:
    """Return the criteria as words of the command line."""
    return [criterion.word(c, None) for c in selection.criteria]


def as_python(folder: str, selection: Selection) -> str:
    """Return the line of Python that gives the same cutouts."""
    plain = {c.column: _in_python(c) for c in selection.criteria}
    if all(name.isidentifier() for name in plain):
        arguments = ", ".join(f"{name}={value}" for name, value in plain.items())
    else:
        arguments = "**{" + ", ".join(f"{name!r}: {value}" for name, value in plain.items()) + "}"
    return f"Harvest({folder!r})" + (f".select({arguments})" if plain else "")


def as_shell(folder: str, selection: Selection, detectors: Sequence[str]) -> str:
    """
    Return the line for a shell that finds the same: the archive's rows, or the dataURIs of the folder's cutouts.

    The archive can be asked only where the folder has one detector, and it knows all the columns.
    """
    names = [c.column for c in selection.criteria]
    if len(detectors) == 1 and all(name in known.COLUMNS for name in names):
        place = detector(detectors[0])
        try:
            asked = [criterion.word(criterion.parse(one, place), place) for one in words(selection)]
            return shlex.join(["psfharvest", "query", place.name, *asked])
        except BadQuery:
            pass
    uris = f"{as_python(folder, selection)}.table(['uri'])['uri']"
    program = f"from psfharvest import Harvest; print(*{uris}, sep='\\n')"
    return shlex.join(["python", "-c", program])


def _in_python(one: Criterion) -> str:
    if isinstance(one, AnyOf):
        values = [_literal(value) for value in one.values]
        return values[0] if len(values) == 1 else f"[{', '.join(values)}]"
    return criterion.shown(one)


def _literal(value: str) -> str:
    """Return a value as Python writes it: as a number where that is the same."""
    try:
        number = json.loads(value)
    except ValueError:
        return repr(value)
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    return value if is_number and repr(number) == value else repr(value)
