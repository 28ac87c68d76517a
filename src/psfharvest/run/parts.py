"""Cut a query into parts by counts alone, each a harvest of its own; together they are the query's harvest."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator

from psfharvest.archive.catalog.listing import id_range
from psfharvest.archive.catalog.mashup import Mashup
from psfharvest.core.catalog.partition import Planner, Question
from psfharvest.core.catalog.plan import Part
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import BadInput
from psfharvest.store.manifest.targets import Target


async def plan(mashup: Mashup, query: Query, part_rows: int) -> AsyncGenerator[Part, None]:
    """
    Yield the parts of a query, ascending, each of at most `part_rows` sources unless one id has more.

    Ranges without sources belong to the part before them (the first part: behind them), so that the parts cover
    the query's whole range. A query with a limit ends with the part that reaches it.

    Raises
    ------
    BadInput
        When the archive takes no criterion on ids.
    BadQuery, ArchiveDown
        As a count does.
    """
    if query.detector.name in mashup.learnt.unfiltered:
        raise BadInput("the archive takes no criterion on 'id': the query cannot be cut into parts")
    whole = id_range(query.criteria)
    planner = Planner(part_rows, [whole])
    left = query.limit
    low, last = whole.low, None
    while left != 0 and (step := planner.next_step()) is not None:
        if step.ask is Question.COUNT:
            planner.counted(await mashup.count(query, step.part))
            continue
        if last is not None:
            yield last
        n = step.expected if left is None else min(left, step.expected)
        left = None if left is None else left - n
        last, low = Part(low, step.part.high, n), step.part.high + 1
        planner.received(step.expected)
    if last is not None:
        yield Part(last.low, whole.high, last.n)


def part_target(parent: Target, query: Query, part: Part) -> Target:
    """Return the target of one part: its own identity, and beside its range what it is a part of."""
    whole = id_range(query.criteria)
    if not whole.low <= part.low <= part.high <= whole.high or part.n < 0:
        raise BadInput(f"{part} is no part of this query; give one that plan() has given for it")
    limited = {"query": {**parent.spec["query"], "limit": part.n}} if query.limit is not None else {}
    spec = {
        **parent.spec,
        **limited,
        "part": [part.low, part.high],
        "parent": {"identity": parent.identity, "spec": {**parent.spec, "whole": list(whole)}},
    }
    identity = json.dumps([parent.identity, part.low, part.high])
    return Target("query", identity, spec, expected=part.n * len(parent.spec["suffixes"]))
