"""``columns``: what can be asked for, from what is known here; no network."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence

import click

from psfharvest.cli import complete
from psfharvest.cli.options import split
from psfharvest.cli.output import result, say
from psfharvest.core.catalog import values
from psfharvest.core.catalog.columns import COLUMNS, Column
from psfharvest.core.catalog.detectors import DETECTORS, Detector, detectors

NAME_WIDTH, UNIT_WIDTH = 14, 13
NARROW = 60


@click.command()
@click.argument("detector", required=False, shell_complete=complete.detectors)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, one line a column.")
def columns(detector: str | None, as_json: bool) -> None:
    """
    Show the columns that criteria and --columns can name: unit, meaning, values or usual range.

    Without DETECTOR, of all three. What stands behind "values" can be written after COLUMN= as it is.

    \b
    psfharvest columns UVIS
    psfharvest columns WFPC2 --json
    """
    chosen = tuple(DETECTORS.values()) if not split(detector) else detectors(detector or "")
    for column in COLUMNS.values():
        having = [d for d in chosen if d.name in column.only]
        if not having:
            continue
        if as_json:
            result(json.dumps(_plain(column, having)))
        else:
            for line in _lines(column, having, shutil.get_terminal_size().columns, is_one=len(chosen) == 1):
                result(line)
    if not as_json:
        say("the archive may have more: 'psfharvest query DETECTOR --limit 1 -o FILE.csv' gives all of them")


def _plain(column: Column, having: Sequence[Detector]) -> dict[str, object]:
    every = dict.fromkeys(value for d in having for value in values.values_of(column.name, d))
    return {
        "name": column.name,
        "kind": column.kind,
        "unit": _units(column, having),
        "meaning": column.description,
        "detectors": [d.name for d in having],
        "values": list(every),
    }


def _units(column: Column, having: Sequence[Detector]) -> str:
    units = {d.name: column.unit_for(d) for d in having}
    if len(set(units.values())) == 1:
        return next(iter(units.values()))
    return ", ".join(f"{unit} ({name})" for name, unit in units.items())


def _lines(column: Column, having: Sequence[Detector], width: int, *, is_one: bool) -> Iterator[str]:
    """Yield one column's lines: name, unit and meaning, then values; none is wider than the terminal."""
    width = max(width, 20)
    unit = column.unit_for(having[0]) if len({column.unit_for(d) for d in having}) == 1 else ""
    meaning = column.description + ("" if is_one else f" [{' '.join(d.name for d in having)}]")
    if width < NARROW:
        yield f"{column.name} {f'({unit})' if unit else ''}".rstrip()
        yield from textwrap.wrap(meaning, width - 1, initial_indent="  ", subsequent_indent="  ")
        indent = "  "
    else:
        indent = " " * (NAME_WIDTH + UNIT_WIDTH)
        head = f"{column.name:<{NAME_WIDTH}}{unit:<{UNIT_WIDTH}}"
        yield from textwrap.wrap(meaning, width - 1, initial_indent=head, subsequent_indent=indent)
    by_detector = {d.name: " ".join(values.values_of(column.name, d)) for d in having}
    if len(set(by_detector.values())) == 1:
        by_detector = {"values": next(iter(by_detector.values()))}
    for name, shown in by_detector.items():
        if shown:
            more = f"{indent}  "
            yield from textwrap.wrap(
                f"{name}: {shown}", width - 1, initial_indent=indent, subsequent_indent=more, break_on_hyphens=False
            )
