"""
Asynchronous listing of a query's rows in complete parts, adapted to the archive's limits.

A part is a range of ids that fits one answer. What the archive counts is compared with what it gives, for each part
and for the whole; a difference is looked into, and what remains of it is counted in `Listing.lacking`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any, NamedTuple

import anyio.to_thread

from psfharvest.archive.catalog.mashup import Mashup, Undelivered
from psfharvest.archive.catalog.questions import EndsLearnt, NoCriterion, Questions
from psfharvest.archive.catalog.rows import NO_ROWS, Rows, Unreadable
from psfharvest.core.catalog.criterion import Between, Criterion
from psfharvest.core.catalog.partition import (
    HIGHEST,
    LOWEST,
    MIN_PAGE_ROWS,
    WHOLE,
    Part,
    Planner,
    Question,
    Step,
    gaps,
)
from psfharvest.core.catalog.query import Query

MAX_LACKING_IN_A_ROW = 20
"""So many ids in a row that are counted but not given end the query."""
MAX_COUNTS = 200
"""Counts spent at most on finding where a difference lies."""
MAX_PASSES = 3
"""How often a result that can only be read page by page is read, as long as rows are lacking."""
MAX_RESULT_ROWS = 500_000
"""The most rows that the query service gives of one result, as its clients document it."""


class PartRows(NamedTuple):
    """
    A finished part: the range of ids that it covers, and its rows in ascending order of id.

    `part` is None for rows of a result that is read page by page: they cover no range. `is_again` marks a part that
    was given before and is given anew since rows were lacking.
    """

    part: Part | None
    rows: Rows
    is_again: bool = False


class Listing:
    """
    The rows of one query.

    Parameters
    ----------
    mashup
        Answers single questions.
    query
        Its `columns` come first in each row; whatever a dataURI needs is added.
    finished
        Parts that an earlier run has had, with the number of their rows; they are not asked for again.
    total
        What was counted first, if anything was.
    every_column
        Whether a query that names no columns is for all that the archive has; else for those that are known.

    Attributes
    ----------
    lacking
        Sources that the archive counts but did not give; final once `parts` has ended.
    """

    def __init__(
        self,
        mashup: Mashup,
        query: Query,
        finished: Iterable[tuple[Part, int]] = (),
        *,
        total: int | None = None,
        every_column: bool = False,
    ) -> None:
        self.lacking = 0
        self._mashup = mashup
        self._query = query
        self._whole = id_range(query.criteria)
        self._done = sorted(finished)
        self._total = total
        self._left = query.limit
        self._questions = Questions(mashup, query, every_column=every_column)
        self._pool = NO_ROWS
        self._n_copies = 0
        self._has_failed = False

    @property
    def total(self) -> int | None:
        """How many sources there will be, as far as that was counted."""
        limit = self._query.limit
        return self._total if limit is None or self._total is None else min(self._total, limit)

    async def parts(self) -> AsyncGenerator[PartRows, None]:
        """
        Yield the rows part by part, in ascending order of id, each part complete.

        Raises
        ------
        BadQuery
            When the archive refuses the query; in its words.
        ArchiveDown
            When it stays out of reach past the patience, or does not give what it counts.
        """
        detector = self._query.detector.name
        is_ranged = self._whole != WHOLE or detector not in self._mashup.learnt.unfiltered
        try:
            async with aclosing(self._ranges() if is_ranged else self._pages()) as parts:
                async for part in parts:
                    yield part
        except NoCriterion:
            self._mashup.learnt.unfiltered.append(detector)
            self._mashup.note("the archive takes no criterion on 'id': the rows were read page by page")
            async with aclosing(self._pages()) as parts:
                async for part in parts:
                    yield part

    async def _ranges(self) -> AsyncGenerator[PartRows, None]:
        todo = gaps((part for part, _ in self._done), self._whole)
        count = None
        if todo == [self._whole] and self._left != 0:
            count = await self._questions.count(self._whole)
            self._total = count if self._total is None else self._total
        async with aclosing(self._planned(todo, count)) as parts:
            async for part in parts:
                yield part
        if self._query.limit is None and self._total is not None and self._n_done() < self._total:
            async with aclosing(self._look_into()) as parts:
                async for part in parts:
                    yield part
        if self.lacking:
            n = self._total or self._n_done()
            self._mashup.note(f"{self.lacking} of {n} sources are counted by the archive, but not given")
        if self._n_copies:
            self._mashup.note(f"{self._n_copies} rows of the catalogue came twice; each source counts once")

    async def _planned(
        self, todo: list[Part], count: int | None, *, is_again: bool = False
    ) -> AsyncGenerator[PartRows, None]:
        planner = Planner(self._mashup.page_rows, todo)
        if count is not None and planner.next_step() is not None:
            planner.counted(count)
        while self._left != 0 and (step := planner.next_step()) is not None:
            if step.ask is Question.COUNT:
                planner.counted(await self._questions.count(step.part))
                continue
            try:
                rows = await self._rows(planner, step)
            except EndsLearnt:  # the counts so far were of other ranges: plan anew what is not done
                left = [gap for part in todo for gap in gaps((done for done, _ in self._done), part)]
                planner = Planner(planner.page_rows, left)
                self._pool = NO_ROWS
                continue
            if rows is None:
                continue
            if self._left is not None:
                rows = Rows(rows.columns, rows.kinds, rows.values[: self._left])
                self._left -= len(rows)
            yield PartRows(step.part, rows, is_again)
        self.lacking += planner.lacking

    async def _rows(self, planner: Planner, step: Step) -> Rows | None:
        """Return the rows of a part, or None when it must be taken apart, as the planner knows by now."""
        rows = self._pooled(step.part)
        n_rows = len(rows)
        if n_rows < step.expected:
            try:
                rows, n_rows = await self._fresh(step, rows)
            except Undelivered as error:
                return self._undelivered(planner, step, rows, str(error))
        above = self._pooled(Part(step.part.high + 1, HIGHEST))
        lacking = planner.lacking
        if not planner.received(n_rows):
            self._mashup.learnt.page_rows = planner.page_rows
            self._pool = await self._distinct(above, rows)
            return None
        self._check_lacking(planner, step)
        self._pool = above
        self._done.append((step.part, max(n_rows, step.expected) if planner.lacking > lacking else n_rows))
        return rows

    def _undelivered(self, planner: Planner, step: Step, pooled: Rows, words: str) -> Rows | None:
        """Return what came before of an id on which the archive fails; None for a part that is taken apart."""
        before = planner.page_rows
        is_done = planner.undelivered(len(pooled))
        if planner.page_rows < before:
            self._mashup.learnt.page_rows = planner.page_rows
            self._mashup.note(
                f"the archive does not deliver large answers: {planner.page_rows} rows were asked for"
            )
        if not is_done:
            return None
        self._check_lacking(planner, step)
        if not self._has_failed:
            self._has_failed = True
            self._mashup.note(
                f"the archive fails to give some sources, first that with id {step.part.low}: {words}"
            )
        self._done.append((step.part, step.expected))
        return pooled if pooled.values else Rows.none(self._query.columns, self._query.detector)

    def _check_lacking(self, planner: Planner, step: Step) -> None:
        """Raise `ArchiveDown` when too many ids in a row are counted but not given."""
        if planner.lacking_in_a_row >= MAX_LACKING_IN_A_ROW:
            raise self._mashup.down(
                f"the archive counts sources with ids up to {step.part.high} but does not give them"
            )

    async def _fresh(self, step: Step, pooled: Rows) -> tuple[Rows, int]:
        """Ask for a part; return its distinct rows, those that came before included, and the number to compare."""
        came = await self._questions.rows(step.part, step.expected)
        rows = await self._distinct(pooled, came)
        if not len(came) >= step.expected > len(rows):
            return rows, max(len(came), len(rows))
        # copies: of the catalogue, or of an answer that repeats some rows and leaves out others
        again = await self._distinct(rows, await self._questions.rows(step.part, step.expected))
        if len(again) > len(rows):
            return again, len(again)
        self._n_copies += len(came) - len(rows)
        return rows, len(came)

    def _pooled(self, part: Part) -> Rows:
        """Return what came of a part in answers that were too short."""
        return self._pool.within(*part) if self._pool.values else NO_ROWS

    async def _distinct(self, *answers: Rows) -> Rows:
        """Return the distinct rows of answers, from a thread: there may be very many."""
        try:
            return await anyio.to_thread.run_sync(lambda: NO_ROWS.plus(*answers).distinct())
        except Unreadable as error:
            raise self._mashup.down(str(error)) from error

    def _n_done(self) -> int:
        return sum(n for _, n in self._done)

    async def _look_into(self) -> AsyncGenerator[PartRows, None]:
        """Ask anew for the parts that hold fewer rows than are counted now, and say what is lacking still."""
        await self._questions.learn_ends(self._whole)
        total = await self._questions.count(self._whole)
        if total <= self._n_done():
            self._mashup.note(f"the catalogue changed: first {self._total} sources were counted, now {total}")
            return
        for suspect, _ in await self._suspects():
            self._done = [(part, n) for part, n in self._done if part.high < suspect.low or part.low > suspect.high]
            async with aclosing(self._planned([suspect], None, is_again=True)) as parts:
                async for part in parts:
                    yield part
        self.lacking += max(0, total - self._n_done())

    async def _suspects(self) -> list[tuple[Part, int]]:
        """Return the parts, and gaps between them, that hold fewer rows than the archive counts in them."""
        empty = [(gap, 0) for gap in gaps((part for part, _ in self._done), self._whole)]
        segments = [sorted([*self._done, *empty])]
        found: list[tuple[Part, int]] = []
        for _ in range(MAX_COUNTS):
            if not segments:
                break
            segment = segments.pop()
            span = Part(segment[0][0].low, segment[-1][0].high)
            if await self._questions.count(span) <= sum(n for _, n in segment):
                continue
            if len(segment) == 1:
                found += segment
            else:
                middle = len(segment) // 2
                segments += [segment[middle:], segment[:middle]]
        return found

    async def _pages(self) -> AsyncGenerator[PartRows, None]:
        """Yield the rows page by page, each source once; pages of an unordered result may repeat and miss rows."""
        total = await self._mashup.count(self._query)
        seen: set[int] = set()
        kept = NO_ROWS
        for n_before in range(MAX_PASSES):
            page_rows = min(total, MAX_RESULT_ROWS) if n_before else self._mashup.page_rows
            async with aclosing(self._one_pass(seen, total, page_rows)) as passed:
                async for rows in passed:
                    if self._left is None:
                        yield PartRows(None, rows)
                    else:
                        kept = await self._distinct(kept, rows)
            if len(seen) >= total:
                break
        self.lacking = max(0, total - len(seen))
        if self.lacking:
            self._mashup.note(
                f"{self.lacking} of {total} sources are counted by the archive, but no page holds them"
            )
        yield PartRows(self._whole, Rows(kept.columns, kept.kinds, kept.values[: self._left or 0]))

    async def _one_pass(self, seen: set[int], total: int, page_rows: int) -> AsyncGenerator[Rows, None]:
        """Yield the rows of all pages that are not in `seen`, and add them to it."""
        page = n_read = 0
        while len(seen) < total and n_read < total + page_rows:
            page += 1
            try:
                came = await self._questions.page(WHOLE, 0, page, page_rows)
            except Undelivered as error:
                if page_rows <= MIN_PAGE_ROWS:
                    raise self._mashup.down(f"the archive does not deliver {page_rows} rows: {error}") from error
                page_rows = self._mashup.learnt.page_rows = max(MIN_PAGE_ROWS, page_rows // 2)
                page = n_read = 0
                continue
            if not came.values:
                break
            n_read += len(came)
            rows = await self._distinct(came)
            new = await anyio.to_thread.run_sync(_unseen, rows, seen)
            yield Rows(rows.columns, rows.kinds, new)


def id_range(criteria: Iterable[Criterion]) -> Part:
    """Return the range of ids that a query's own criteria leave."""
    for criterion in criteria:
        if criterion.column == "id" and isinstance(criterion, Between):
            low = LOWEST if criterion.low is None else max(LOWEST, -int(-criterion.low // 1))
            high = HIGHEST if criterion.high is None else min(HIGHEST, int(criterion.high // 1))
            return Part(low, high)
    return WHOLE


def _unseen(rows: Rows, seen: set[int]) -> list[tuple[Any, ...]]:
    """Return the rows that are not in `seen`, and add them to it."""
    keys = [hash(tuple(map(str, row))) for row in rows.values]
    new = [row for row, key in zip(rows.values, keys, strict=True) if key not in seen]
    seen.update(keys)
    return new
