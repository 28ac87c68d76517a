"""
Questions to the archive's catalogue: counts, rows of a part, and whether it is alive.

How a whole query is taken apart into such questions is decided in `psfharvest.archive.catalog.listing`; how one is
sent, in `psfharvest.archive.catalog.query_service`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from psfharvest.archive.catalog import answer as answers
from psfharvest.archive.catalog.part_criteria import criteria_within
from psfharvest.archive.catalog.query_service import QueryService, Trouble
from psfharvest.archive.catalog.rows import Rows
from psfharvest.archive.endpoints import Endpoints
from psfharvest.archive.wires.base import Wire
from psfharvest.core.catalog.criterion import Between, Criterion
from psfharvest.core.catalog.learnt import Learnt
from psfharvest.core.catalog.partition import MIN_PAGE_ROWS, WHOLE, Part
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import ArchiveDown
from psfharvest.core.model import Failure, Limits, RetryPolicy
from psfharvest.core.ports import HostLimiter

MAX_FAILURES = 2
"""How often an answer may fail before it is taken to be more than the archive can deliver at once."""
CONTROL = Query("UVIS", id=(1, 1))
"""What a control request counts."""


class Undelivered(Exception):
    """Raised when the archive lives, but fails to deliver one answer: it may be too large."""


class Mashup:
    """
    Asks the archive's catalogue.

    Parameters
    ----------
    wire, limiter, endpoints, limits, policy
        What moves the bytes, who may send, where to, the caps, and the patience.
    learnt
        What is known of this archive already; what is learnt now goes there.

    Attributes
    ----------
    notes
        Sentences for people about what was not as expected, each once.
    """

    def __init__(
        self,
        wire: Wire,
        limiter: HostLimiter,
        endpoints: Endpoints,
        limits: Limits,
        policy: RetryPolicy,
        *,
        learnt: Learnt | None = None,
    ) -> None:
        self.learnt = Learnt() if learnt is None else learnt
        self.notes: list[str] = []
        self._limits = limits
        self._service = QueryService(wire, limiter, endpoints, limits, policy)

    def note(self, words: str) -> None:
        """Keep a sentence for people, once."""
        if words not in self.notes:
            self.notes.append(words)

    @property
    def page_rows(self) -> int:
        """What one answer is trusted to hold."""
        return min(self._limits.page_rows, self.learnt.page_rows or self._limits.page_rows)

    async def count(self, query: Query, part: Part = WHOLE) -> int:
        """
        Return the number of sources, the query's limit left aside.

        Raises
        ------
        BadQuery
            When the archive refuses the query; in its words.
        ArchiveDown
            When it stays out of reach past the patience.
        """
        criteria = criteria_within(query.criteria, part, self.learnt.ends)
        if criteria is None:
            return 0
        if not self.learnt.counts:
            return await self._counted(query, criteria)
        try:
            return await self._counted(query, criteria, max_failures=MAX_FAILURES)
        except Trouble as trouble:
            if not trouble.is_refused:
                return await self._counted(query, criteria)
            counted = await self._counted(query, criteria, by_pages=True)
            self.learnt.counts = False
            self.note(f"the archive does not count ({trouble.failure.detail}): totals were read from its pages")
            return counted

    async def control(self) -> Failure | None:
        """Count once, or list where that is refused; return why neither was answered, or None."""
        if self.learnt.counts:
            failure = await self._service.ask_once(self._payload(CONTROL, "COUNT_BIG(*)", CONTROL.criteria))
            if failure is None or failure.status != 200:
                return failure
        one_row = self._payload(CONTROL, "id", CONTROL.criteria) | {"pagesize": 1, "page": 1}
        return await self._service.ask_once(one_row)

    async def rows(
        self,
        query: Query,
        part: Part,
        expected: int,
        columns: Iterable[str],
        page: int = 1,
        page_rows: int = 0,
        control: Part | None = None,
    ) -> Rows:
        """
        Return the rows of one answer as they came.

        Raises
        ------
        Undelivered
            When the archive failed `MAX_FAILURES` times to answer, though it is alive: it counts. Where few rows
            are asked for, it must also give those of `control`; without one, the part must be wider than one id.
        """
        criteria = criteria_within(query.criteria, part, self.learnt.ends)
        if criteria is None:
            return Rows.none(query.columns, query.detector)
        payload = self._payload(query, ",".join(columns), criteria)
        n_rows = page_rows or max(expected, self.page_rows)
        payload |= {"pagesize": n_rows, "page": page}
        is_small = (page_rows or expected) <= MIN_PAGE_ROWS and payload["params"]["columns"] != "*"
        while True:
            try:
                return await self._service.ask(
                    payload, query, answers.catalogue_rows_of, n_rows, max_failures=MAX_FAILURES
                )
            except Trouble as trouble:
                is_alive = await self._is_alive(query, criteria)
                if is_alive and (not is_small or await self._is_its_own(query, part, columns, control)):
                    raise Undelivered(trouble.failure.detail or trouble.failure.reason) from trouble
            if is_small:  # what fails is not these rows alone
                return await self._service.ask(payload, query, answers.catalogue_rows_of, n_rows)
            await self.count(query, part)  # with patience: an outage ends first

    async def count_as_sent(self, query: Query, low: int, high: int) -> int:
        """Return the count of a range of ids whose ends are sent as they are."""
        criteria = [*(c for c in query.criteria if c.column != "id"), Between("id", low, high)]
        return await self._counted(query, criteria)

    async def ids(self, query: Query, low: int, high: int) -> set[int | None]:
        """Return ids that the archive gives for a range whose ends are sent as they are."""
        criteria = [*(c for c in query.criteria if c.column != "id"), Between("id", low, high)]
        payload = self._payload(query, "id", criteria) | {"pagesize": 1000, "page": 1}
        rows = await self._service.ask(payload, query, answers.catalogue_rows_of, 1000)
        return set(rows.ids()) if "id" in rows.columns else set()

    def down(self, words: str) -> ArchiveDown:
        """Return the error of an archive that does not give what it should."""
        return self._service.down(words)

    async def _counted(
        self,
        query: Query,
        criteria: Iterable[Criterion],
        *,
        by_pages: bool = False,
        max_failures: int | None = None,
    ) -> int:
        """Return a count; `by_pages`, or where the archive does not count: the total that a page says."""
        if self.learnt.counts and not by_pages:
            payload, read = self._payload(query, "COUNT_BIG(*)", criteria), answers.count_of
        else:
            payload, read = self._payload(query, "id", criteria) | {"pagesize": 1, "page": 1}, answers.total_of
        return await self._service.ask(payload, query, read, 1, max_failures=max_failures)

    async def _is_alive(self, query: Query, criteria: Iterable[Criterion]) -> bool:
        """Return True when the archive answers something small: the count of what it failed to list."""
        try:
            await self._counted(query, criteria, max_failures=1)
        except Trouble:
            return False
        return True

    async def _is_its_own(self, query: Query, part: Part, columns: Iterable[str], control: Part | None) -> bool:
        """Return whether rows that the archive fails to give are these alone: it gives others, of `control`."""
        if part.low < part.high and (control is None or control.low < control.high):
            return part != WHOLE
        if control is None:
            return False
        criteria = criteria_within(query.criteria, control, self.learnt.ends)
        if criteria is None:
            return False
        payload = self._payload(query, ",".join(columns), criteria) | {"pagesize": 1, "page": 1}
        try:
            rows = await self._service.ask(payload, query, answers.rows_of, 1, max_failures=1)
        except Trouble:
            return False
        return len(rows) > 0

    def _payload(self, query: Query, columns: str, criteria: Iterable[Criterion]) -> dict[str, Any]:
        return {
            "service": query.detector.service,
            "params": {"columns": columns, "filters": [c.wire() for c in criteria]},
            "format": "json",
        }
