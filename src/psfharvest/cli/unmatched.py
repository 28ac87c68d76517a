"""Why a query matches nothing, in words: values that do not exist, or the criterion that excludes everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psfharvest.core.errors import PsfharvestError

if TYPE_CHECKING:
    from psfharvest.client import Archive
    from psfharvest.core.catalog.query import Query

MOST_COUNTS = 6
"""Criteria that are counted one by one; each is a request."""


async def explain(archive: Archive, query: Query) -> list[str]:
    """
    Return sentences that say why `query` matches no source.

    What is known of the columns' values comes first; otherwise each criterion is counted alone.
    """
    from psfharvest.core.catalog import criterion, values  # noqa: PLC0415 - heavy
    from psfharvest.core.catalog.query import replace_query  # noqa: PLC0415

    place = query.detector
    words = " ".join(query.words)
    found = [f"no source matches {words}"]
    if query.limit == 0:
        return [f"{words}: the limit is 0, so there is nothing"]
    hints = values.hints(query)
    if hints or len(query.criteria) < 2 or len(query.criteria) > MOST_COUNTS:
        return found + hints
    try:
        counted = [
            (criterion.word(c, place), await archive.count(replace_query(query, criteria=(c,), limit=None)))
            for c in query.criteria
        ]
    except PsfharvestError:
        return found
    return [*found, "each criterion alone matches: " + ", ".join(f"{word} {n:,}" for word, n in counted)]
