"""
Queries: counted, split, polled, and told apart when they fail.

An answer with fewer rows than its count is never taken for the whole. What the archive says of the query itself
(an unknown column, a value that it cannot convert) is the caller's to mend and is shown in its own words;
everything else is tried again until the patience ends.
"""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import anyio
import anyio.to_thread

from psfharvest.archive.catalog.rows import Rows, Unreadable, parse, rows_of
from psfharvest.archive.endpoints import Endpoints, without
from psfharvest.archive.fetch.verify import failure_of
from psfharvest.archive.wires.base import Request, Wire
from psfharvest.core.catalog import columns as known
from psfharvest.core.catalog.criterion import AnyOf, Between, Criterion
from psfharvest.core.catalog.partition import HIGHEST, LOWEST, MAX_DISAGREEMENTS, WHOLE, Ask, Part, Planner, gaps
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import ArchiveDown, BadQuery
from psfharvest.core.model import Evidence, Failure, Limits, Reason, RetryPolicy
from psfharvest.core.policy.retry import retrying
from psfharvest.core.ports import TrafficLight

QUERY_TIMEOUT_S = 60.0
MAX_ANSWER_BYTES = 512 * 2**20
MAX_ROW_BYTES = 4096
"""Real rows of 89 columns have 1,500; an answer is read up to what the rows asked for can come to, and this."""
MAX_FRAME_BYTES = 2**20
MAX_COUNT = 2**53
MAX_WORDS = 500
FIRST_POLL_S, MAX_POLL_S = 0.2, 5.0
POLLING_TIMEOUT_S = 1800.0
"""How long one query may go on ``EXECUTING`` before it is sent anew."""

_OWN_FAULT = re.compile(
    r"invalid column name|conversion failed|error converting|converting data type|incorrect syntax|syntax error"
    r"|unknown service|service .*(not found|does not exist|is not valid)|invalid service|no such service"
    r"|operand type clash|arithmetic overflow",
    re.IGNORECASE,
)
_COLUMN = re.compile(r"invalid column name '([^']*)'", re.IGNORECASE)
T = TypeVar("T")


class PartRows(NamedTuple):
    """A finished part: the range of ids that it covers, and its rows in ascending order of id."""

    part: Part
    rows: Rows


class _Trouble(Exception):
    """Raised within this module when a request for a query failed and may be sent again."""

    def __init__(self, failure: Failure, n_asked: int = 0) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.n_asked = n_asked


class Mashup:
    """
    The archive's query service.

    Parameters
    ----------
    wire, traffic, endpoints, limits, policy
        What moves the bytes, who may send, where to, the caps, and the patience.
    draw
        A source of numbers in ``[0, 1)``.
    """

    def __init__(
        self,
        wire: Wire,
        traffic: TrafficLight,
        endpoints: Endpoints,
        limits: Limits,
        policy: RetryPolicy,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._wire = wire
        self._traffic = traffic
        self._limits = limits
        self._policy = policy
        self._draw = draw
        self._template = Request(
            endpoints.invoke_url,
            headers=(("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "text/plain")),
            credentials=endpoints.credentials(),
            max_bytes=MAX_FRAME_BYTES,
            connect_timeout_s=limits.connect_timeout_s,
            timeout_s=limits.timeout_s or QUERY_TIMEOUT_S,
            total_timeout_s=None,
        )

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
        criteria = _within(query.criteria, part)
        if criteria is None:
            return 0
        return await self._insist(self._payload(query, "COUNT_BIG(*)", criteria), query, _count_of)

    async def rows(self, query: Query, part: Part, expected: int) -> Rows:
        """Return the distinct rows of one part as they came, sorted by id; they may be fewer than `expected`."""
        criteria = _within(query.criteria, part)
        if criteria is None:
            return Rows.none(query.columns, query.detector)
        payload = self._payload(query, _wanted(query), criteria)
        n_rows = max(expected, self._limits.page_rows)
        payload |= {"pagesize": n_rows, "page": 1}
        return await self._insist(payload, query, lambda answer: rows_of(answer).distinct_by_id(), n_rows)

    async def parts(self, query: Query, finished: Iterable[Part] = ()) -> AsyncIterator[PartRows]:
        """
        Yield the query's rows part by part, in ascending order of id, each part complete.

        Parameters
        ----------
        query
            Its `columns` come first in each row; whatever a dataURI needs is added.
        finished
            Parts that an earlier run has had; they are not asked for again.

        Raises
        ------
        BadQuery, ArchiveDown
            As `count` does.
        """
        planner = Planner(self._limits.page_rows, gaps(finished, _id_range(query.criteria)))
        left = query.limit
        while left != 0 and (step := planner.next_step()) is not None:
            if step.ask is Ask.COUNT:
                planner.counted(await self.count(query, step.part))
                continue
            rows = await self.rows(query, step.part, step.expected)
            if not planner.received(len(rows)):
                self._check_agreement(planner, step.part)
                continue
            if left is not None:
                rows = Rows(rows.columns, rows.kinds, rows.values[:left])
                left -= len(rows)
            yield PartRows(step.part, rows)

    def _check_agreement(self, planner: Planner, part: Part) -> None:
        if planner.disagreements >= MAX_DISAGREEMENTS:
            raise ArchiveDown(
                f"the archive counts sources with id {part.low} but does not give them; run again later",
                uri=self._template.url,
                reason="archive_down",
            )

    def _payload(self, query: Query, columns: str, criteria: Iterable[Criterion]) -> dict[str, Any]:
        return {
            "service": query.detector.service,
            "params": {"columns": columns, "filters": [c.wire() for c in criteria]},
            "format": "json",
            "cacheBreaker": str(uuid.uuid4()),
        }

    async def _insist(
        self, payload: dict[str, Any], query: Query, read: Callable[[dict[str, Any]], T], n_rows: int = 0
    ) -> T:
        body = f"request={quote(json.dumps(payload))}".encode()
        max_bytes = min(MAX_ANSWER_BYTES, MAX_FRAME_BYTES + n_rows * MAX_ROW_BYTES)
        request = self._template._replace(body=body, max_bytes=max_bytes)
        try:
            async for attempt in retrying(self._policy, anyio.sleep, self._draw, self._may_repeat):
                with attempt:
                    answer = await self._poll(request, query, attempt.retry_state.attempt_number)
                    try:
                        return await anyio.to_thread.run_sync(read, answer)
                    except Unreadable as error:
                        raise _Trouble(Failure(Reason.TEXT_PAGE, str(error), evidence=Evidence.ALIVE)) from error
        except _Trouble as trouble:
            raise ArchiveDown(
                f"the archive did not answer the query: {trouble.failure.detail or trouble.failure.reason}; "
                + (
                    f"is {self._template.url} an archive's address?"
                    if trouble.failure.status in (404, 405, 501)
                    else "run again later"
                ),
                uri=self._template.url,
                reason=trouble.failure.reason,
            ) from trouble
        raise AssertionError("a retry loop ends by a value or an error")

    def _may_repeat(self, error: BaseException) -> bool:
        if not isinstance(error, _Trouble):
            return False
        is_http = 400 <= error.failure.status < 500 and error.failure.reason is not Reason.RATE_LIMITED
        if error.failure.reason in (Reason.UNAUTHORIZED, Reason.FORBIDDEN):
            return False
        return not (is_http and error.n_asked >= self._policy.attempts)

    async def _poll(self, request: Request, query: Query, n_asked: int) -> dict[str, Any]:
        pause_s = FIRST_POLL_S
        polling_s = max(self._template.timeout_s, min(POLLING_TIMEOUT_S, 10 * self._policy.patience_s))
        with anyio.move_on_after(polling_s):
            while True:
                answer = await self._ask(request, n_asked)
                status = answer.get("status")
                if status == "COMPLETE":
                    return answer
                if status == "ERROR":
                    raise _error(self._plain(answer.get("msg") or "no words"), query)
                if status != "EXECUTING":
                    words = f"status {self._plain(status)[:100]!r}"
                    raise _Trouble(Failure(Reason.TEXT_PAGE, words, evidence=Evidence.ALIVE))
                await anyio.sleep(pause_s)
                pause_s = min(pause_s * 1.5, MAX_POLL_S)
        raise _Trouble(Failure(Reason.TIMEOUT, f"still executing after {polling_s:g} s"))

    def _plain(self, words: object) -> str:
        """Return the archive's words on one line, cut short before anything is sought in them, safe to print."""
        text = without(self._template.credentials, str(words)[: 2 * MAX_WORDS])
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MAX_WORDS]

    async def _ask(self, request: Request, n_asked: int) -> dict[str, Any]:
        async with self._traffic.turn(self._policy.patience_s):
            settled = False
            try:
                reply = await self._wire.exchange(request)
                failure = failure_of(reply)
                settled = True
                if failure is None:
                    self._traffic.succeeded(1, reply.elapsed_s)
                else:
                    self._traffic.failed(failure, request.body, reply.elapsed_s)
                    raise _Trouble(failure, n_asked)
            finally:
                if not settled:
                    self._traffic.dropped()
        try:
            return await anyio.to_thread.run_sync(parse, reply.body)
        except Unreadable as error:
            raise _Trouble(Failure(Reason.TEXT_PAGE, str(error), evidence=Evidence.ALIVE)) from error


def _error(words: str, query: Query) -> Exception:
    if _OWN_FAULT.search(words) is None:
        return _Trouble(Failure(Reason.SERVER_ERROR, f"the archive says: {words}", evidence=Evidence.ALIVE))
    found = _COLUMN.search(words)
    hint = ""
    if found is not None:
        near = known.near_matches(found[1], query.detector, cutoff=0.4)
        every = [c.name for c in known.COLUMNS.values() if query.detector.name in c.only]
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        hint += f" Known columns of {query.detector.name}: {', '.join(every)}"
    return BadQuery(f"the archive refuses the query: {words}{hint}", field=found[1] if found else "")


def _count_of(answer: dict[str, Any]) -> int:
    data = answer.get("data")
    try:
        row = data[0]  # type: ignore[index]  # whatever it is, the except below has it
        (value,) = row.values() if isinstance(row, dict) else row
        count = int(value) if isinstance(row, (dict, tuple)) else -1
    except (TypeError, ValueError, LookupError, OverflowError):
        raise Unreadable("no count in the answer to a count") from None
    if not 0 <= count <= MAX_COUNT:
        raise Unreadable(f"a count of {str(count)[:40]}")
    return count


def _wanted(query: Query) -> str:
    if query.columns is None:
        return "*"
    return ",".join(dict.fromkeys([*query.columns, *known.needed(query.detector)]))


def _id_range(criteria: Iterable[Criterion]) -> Part:
    for criterion in criteria:
        if criterion.column == "id" and isinstance(criterion, Between):
            low = LOWEST if criterion.low is None else max(LOWEST, -int(-criterion.low // 1))
            high = HIGHEST if criterion.high is None else min(HIGHEST, int(criterion.high // 1))
            return Part(low, high)
    return WHOLE


def _within(criteria: Iterable[Criterion], part: Part) -> tuple[Criterion, ...] | None:
    """Return the criteria narrowed to the ids of `part`, or None when nothing can match."""
    if part == WHOLE:
        return tuple(criteria)
    others = tuple(c for c in criteria if c.column != "id")
    listed = [c for c in criteria if c.column == "id" and isinstance(c, AnyOf)]
    if not listed:
        low, high = (None if end in (LOWEST, HIGHEST) else end for end in part)  # open: the ends fit no SQL int
        return (*others, Between("id", low, high))
    chosen = tuple(v for v in listed[0].values if _is_within(v, part))
    return (*others, AnyOf("id", chosen)) if chosen else None


def _is_within(value: str, part: Part) -> bool:
    try:
        return part.low <= int(value) <= part.high
    except ValueError:
        return part.low <= 0 <= part.high
