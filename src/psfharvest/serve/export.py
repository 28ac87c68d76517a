"""The rows of a selection as one text, page by page: CSV, JSON lines, or dataURIs, in bounded memory."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from functools import partial

from psfharvest.core.errors import PsfharvestError
from psfharvest.serve import rows
from psfharvest.serve.folder import Folder
from psfharvest.serve.orders import AnyNumbers
from psfharvest.store.read import known_columns
from psfharvest.store.read.intervals import IntervalSet

KINDS = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "txt": "text/plain; charset=utf-8",
}
"""``txt`` is dataURIs, one a line, as ``harvest --uris`` takes them."""
BATCH_SIZE = 512


class Unfinished(Exception):
    """Raised where a text breaks off that has begun: its client sees that it is not whole."""


async def lines(folder: Folder, members: AnyNumbers | IntervalSet, kind: str) -> AsyncIterator[str]:
    """
    Yield the text of all members, in their order.

    Raises
    ------
    Unfinished
        When the service ends, or the folder cannot be read any more.
    """
    try:
        async for text in _lines(folder, members, kind):
            yield text
    except PsfharvestError as error:
        raise Unfinished(str(error)) from error


async def _lines(folder: Folder, members: AnyNumbers | IntervalSet, kind: str) -> AsyncIterator[str]:
    columns = await folder.quick.ask(known_columns.columns)
    if kind == "csv":
        yield _csv([columns])
    for at in range(0, len(members), BATCH_SIZE):
        if folder.stop.is_set():
            raise Unfinished("the service is ending")
        wanted = rows.numbers_at(members, at, BATCH_SIZE)
        only = ["uri"] if kind == "txt" else columns
        found = await folder.quick.ask(partial(rows.rows, numbers=wanted, columns=only))
        if kind == "csv":
            yield _csv([[row[name] for name in columns] for row in found])
        elif kind == "txt":
            yield "".join(f"{row['uri']}\n" for row in found)
        else:
            yield "".join(json.dumps({name: row[name] for name in columns}) + "\n" for row in found)


def _csv(rows_of_text: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows_of_text)
    return text.getvalue()
