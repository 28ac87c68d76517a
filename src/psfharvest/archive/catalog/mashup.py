"""
Client of the query service: sends one question with retries and classifies its errors.

What the archive says of the query itself (an unknown column, a value that it cannot convert) is the caller's to
mend and is shown in its own words; everything else is tried again until the patience ends. How a whole query is
taken apart into questions is `psfharvest.archive.catalog.listing`'s affair.
"""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import quote

import anyio
import anyio.from_thread
import anyio.to_thread

from psfharvest.archive.catalog import answer as answers
from psfharvest.archive.catalog.part_criteria import criteria_within
from psfharvest.archive.catalog.rows import Rows, Unreadable
from psfharvest.archive.endpoints import Endpoints, without
from psfharvest.archive.fetch.verify import failure_of
from psfharvest.archive.wires.base import FORM, Request, Wire
from psfharvest.core.catalog import columns as known
from psfharvest.core.catalog import values
from psfharvest.core.catalog.criterion import Between, Criterion
from psfharvest.core.catalog.learnt import Learnt
from psfharvest.core.catalog.partition import MIN_PAGE_ROWS, WHOLE, Part
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import ArchiveDown, BadQuery
from psfharvest.core.model import Evidence, Failure, Limits, Reason, RetryPolicy
from psfharvest.core.policy.retry import retrying
from psfharvest.core.ports import HostLimiter
from psfharvest.core.reasons import ANSWER_TOO_LARGE
from psfharvest.events.model import Queried

QUERY_TIMEOUT_S = 60.0
MAX_ANSWER_BYTES = 512 * 2**20
MAX_ROW_BYTES = 4096
"""Real rows of 89 columns have 1,500; an answer is read up to what the rows asked for can come to, and this."""
MAX_FRAME_BYTES = 2**20
MAX_WORDS = 500
MAX_FAILURES = 2
"""How often an answer may fail before it is taken to be more than the archive can deliver at once."""
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
TRIES_OF_A_JOB = 3
"""How often a query is asked for under one text, before it becomes a new job."""
CONTROL = Query("UVIS", id=(1, 1))
"""What a control request counts."""
T = TypeVar("T", int, Rows)


class Undelivered(Exception):
    """Raised when the archive lives, but fails to deliver one answer: it may be too large."""


class _Trouble(Exception):
    """Raised within this module when a request for a query failed and may be sent again."""

    def __init__(self, failure: Failure, n_asked: int = 0, *, is_refused: bool = False) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.n_asked = n_asked
        self.is_refused = is_refused
        """True where the archive answered, in words, that it cannot."""


class Mashup:
    """
    The archive's query service.

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
        self._wire = wire
        self._limiter = limiter
        self._limits = limits
        self._policy = policy
        self._no_connections = limiter.failed_connections
        self._template = Request(
            endpoints.invoke_url,
            headers=(FORM, ("Accept", "text/plain")),
            credentials=endpoints.credentials(),
            max_bytes=MAX_FRAME_BYTES,
            connect_timeout_s=limits.connect_timeout_s,
            timeout_s=limits.timeout_s or QUERY_TIMEOUT_S,
            total_timeout_s=None,
        )

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
        except _Trouble as trouble:
            if not trouble.is_refused:
                return await self._counted(query, criteria)
            counted = await self._counted(query, criteria, by_pages=True)
            self.learnt.counts = False
            self.note(f"the archive does not count ({trouble.failure.detail}): totals were read from its pages")
            return counted

    async def control(self) -> Failure | None:
        """Count once, or list where that is refused; return why neither was answered, or None."""
        if self.learnt.counts:
            failure = await self._control("COUNT_BIG(*)")
            if failure is None or failure.status != 200:
                return failure
        failure = await self._control("id")
        if failure is None:
            self.learnt.counts = False
        return failure

    async def _control(self, columns: str) -> Failure | None:
        """Send a small question at once and once; a failure's status is 200 where the archive refuses in words."""
        payload = self._payload(CONTROL, columns, CONTROL.criteria) | {"pagesize": 1, "page": 1}
        reply = await self._wire.exchange(self._template._replace(body=_new_job(payload)))
        self._limiter.repeated(reply.n_sent - 1)
        failure = failure_of(reply)
        if failure is not None:
            return failure
        try:
            answer = await anyio.to_thread.run_sync(answers.parse, reply.body, anyio.from_thread.check_cancelled)
        except Unreadable as error:
            return Failure(Reason.TEXT_PAGE, str(error), evidence=Evidence.ALIVE)
        words = self._plain(answer.get("msg") or "no words")
        if answers.status_of(answer) in ("COMPLETE", "EXECUTING") or _OWN_FAULT.search(words) is not None:
            return None  # one that names the question's own fault (it may know no criterion on id) lives
        return Failure(Reason.SERVER_ERROR, f"the archive says: {words}", status=200)

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
                return await self._query_with_retry(
                    payload, query, answers.catalogue_rows_of, n_rows, max_failures=MAX_FAILURES
                )
            except _Trouble as trouble:
                is_alive = await self._is_alive(query, criteria)
                if is_alive and (not is_small or await self._is_its_own(query, part, columns, control)):
                    raise Undelivered(trouble.failure.detail or trouble.failure.reason) from trouble
            if is_small:  # what fails is not these rows alone
                return await self._query_with_retry(payload, query, answers.catalogue_rows_of, n_rows)
            await self.count(query, part)  # with patience: an outage ends first

    async def count_as_sent(self, query: Query, low: int, high: int) -> int:
        """Return the count of a range of ids whose ends are sent as they are."""
        criteria = [*(c for c in query.criteria if c.column != "id"), Between("id", low, high)]
        return await self._counted(query, criteria)

    async def ids(self, query: Query, low: int, high: int) -> set[int | None]:
        """Return ids that the archive gives for a range whose ends are sent as they are."""
        criteria = [*(c for c in query.criteria if c.column != "id"), Between("id", low, high)]
        payload = self._payload(query, "id", criteria) | {"pagesize": 1000, "page": 1}
        rows = await self._query_with_retry(payload, query, answers.catalogue_rows_of, 1000)
        return set(rows.ids()) if "id" in rows.columns else set()

    def down(self, words: str, reason: str = "archive_down", hint: str = "run again later") -> ArchiveDown:
        """Return the error of an archive that does not give what it should."""
        return ArchiveDown(f"{words}; {hint}", uri=self._template.url, reason=reason)

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
        return await self._query_with_retry(payload, query, read, 1, max_failures=max_failures)

    async def _is_alive(self, query: Query, criteria: Iterable[Criterion]) -> bool:
        """Return True when the archive answers something small: the count of what it failed to list."""
        try:
            await self._counted(query, criteria, max_failures=1)
        except _Trouble:
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
            rows = await self._query_with_retry(payload, query, answers.rows_of, 1, max_failures=1)
        except _Trouble:
            return False
        return len(rows) > 0

    def _payload(self, query: Query, columns: str, criteria: Iterable[Criterion]) -> dict[str, Any]:
        return {
            "service": query.detector.service,
            "params": {"columns": columns, "filters": [c.wire() for c in criteria]},
            "format": "json",
        }

    async def _query_with_retry(
        self,
        payload: dict[str, Any],
        query: Query,
        read: Callable[[dict[str, Any]], T],
        n_rows: int = 0,
        *,
        max_failures: int | None = None,
    ) -> T:
        """
        Ask until there is an answer that can be read.

        The archive knows a job by its text: one that failed may still be running, or may have failed for ever. So
        each text is sent `TRIES_OF_A_JOB` times, and then another one.

        Raises
        ------
        _Trouble
            After `max_failures` answers, where given, that may have been more than the archive can deliver.
        """
        max_bytes = min(MAX_ANSWER_BYTES, MAX_FRAME_BYTES + n_rows * MAX_ROW_BYTES)
        subject = _new_job(payload)
        request = self._template._replace(body=subject, max_bytes=max_bytes)
        n_undelivered = 0
        began_at = anyio.current_time()

        def may_repeat(error: BaseException) -> bool:
            nonlocal n_undelivered
            if isinstance(error, _Trouble) and error.failure.reason in ANSWER_TOO_LARGE:
                n_undelivered += 1
            is_reached = self._unreached() is None
            return is_reached and self._may_repeat(error) and not (max_failures and n_undelivered >= max_failures)

        try:
            async for attempt in retrying(self._policy, anyio.sleep, random.random, may_repeat):
                with attempt:
                    n_asked = attempt.retry_state.attempt_number
                    if n_asked > 1 and n_asked % TRIES_OF_A_JOB == 1:
                        request = request._replace(body=_new_job(payload))
                    answer = await self._poll_until_complete(request, query, subject, n_asked)
                    try:
                        found = await anyio.to_thread.run_sync(read, answer)
                    except Unreadable as error:
                        raise _unreadable(str(error)) from error
                    self._tell_answered(query, found, anyio.current_time() - began_at, n_asked)
                    return found
        except _Trouble as trouble:
            if max_failures and n_undelivered >= max_failures:
                raise
            raise self._given_up(trouble) from trouble
        raise AssertionError("a retry loop ends by a value or an error")

    def _unreached(self) -> ArchiveDown | None:
        return self._limiter.unreached(self._policy, self._no_connections)

    def _tell_answered(self, query: Query, found: int | Rows, elapsed_s: float, attempts: int) -> None:
        self._limiter.emit(
            Queried,
            question="count" if isinstance(found, int) else "rows",
            detector=query.detector.name,
            n=found if isinstance(found, int) else len(found),
            elapsed_s=elapsed_s,
            attempts=attempts,
        )

    def _given_up(self, trouble: _Trouble) -> ArchiveDown:
        unreached = self._unreached()
        if unreached is not None:
            return unreached
        failure = trouble.failure
        why = self._limiter.explained(failure.detail or failure.reason, failure.reason)
        is_elsewhere = failure.status in (404, 405, 501)
        hint = f"is {self._template.url} an archive's address?" if is_elsewhere else "run again later"
        return self.down(f"the archive did not answer the query: {why}", failure.reason, hint)

    def _may_repeat(self, error: BaseException) -> bool:
        if not isinstance(error, _Trouble):
            return False
        is_http = 400 <= error.failure.status < 500 and error.failure.reason is not Reason.RATE_LIMITED
        if error.failure.reason in (Reason.UNAUTHORIZED, Reason.FORBIDDEN):
            return False
        return not (is_http and error.n_asked >= self._policy.attempts)

    async def _poll_until_complete(
        self, request: Request, query: Query, subject: bytes, n_asked: int
    ) -> dict[str, Any]:
        pause_s = FIRST_POLL_S
        polling_s = max(self._template.timeout_s, min(POLLING_TIMEOUT_S, 10 * self._policy.patience_s))
        with anyio.move_on_after(polling_s):
            while True:
                answer = await self._send(request, subject, n_asked)
                status = answers.status_of(answer)
                if status == "COMPLETE":
                    return answer
                if status == "ERROR":
                    raise _error(self._plain(answer.get("msg") or "no words"), query)
                if status != "EXECUTING":
                    words = f"status {self._plain(answer.get('status'))[:100]!r}"
                    raise _unreadable(words)
                await anyio.sleep(pause_s)
                pause_s = min(pause_s * 1.5, MAX_POLL_S)
        raise _Trouble(Failure(Reason.TIMEOUT, f"still executing after {polling_s:g} s"))

    def _plain(self, words: object) -> str:
        """Return the archive's words on one line, cut short before anything is sought in them, safe to print."""
        text = without(self._template.credentials, str(words)[: 2 * MAX_WORDS])
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MAX_WORDS]

    async def _send(self, request: Request, subject: bytes, n_asked: int) -> dict[str, Any]:
        async with self._limiter.turn(self._policy.patience_s):
            settled = False
            try:
                reply = await self._wire.exchange(request)
                self._limiter.repeated(reply.n_sent - 1)
                failure = failure_of(reply)
                settled = True
                if failure is None:
                    self._limiter.succeeded(1, reply.elapsed_s)
                else:
                    self._limiter.failed(failure, subject, reply.elapsed_s, is_repeat=n_asked > 1)
                    raise _Trouble(failure, n_asked)
            finally:
                if not settled:
                    self._limiter.dropped()
        try:
            return await anyio.to_thread.run_sync(answers.parse, reply.body, anyio.from_thread.check_cancelled)
        except Unreadable as error:
            raise _unreadable(str(error)) from error


def _new_job(payload: dict[str, Any]) -> bytes:
    """Return a query's form with a text that no job has had."""
    text = json.dumps(payload | {"cacheBreaker": str(uuid.uuid4())})
    return f"request={quote(text)}".encode()


def _unreadable(words: str) -> _Trouble:
    return _Trouble(Failure(Reason.TEXT_PAGE, words, evidence=Evidence.ALIVE))


def _error(words: str, query: Query) -> Exception:
    if _OWN_FAULT.search(words) is None:
        failure = Failure(Reason.SERVER_ERROR, f"the archive says: {words}", evidence=Evidence.ALIVE)
        return _Trouble(failure, is_refused=True)
    found = _COLUMN.search(words)
    if found is not None:
        near = known.near_matches(found[1], query.detector, cutoff=0.4)
        every = list(known.known_names(query.detector))
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        hint += f" Known columns of {query.detector.name}: {', '.join(every)}"
        return BadQuery(f"the archive refuses the query: {words}{hint}", field=found[1])
    column, sentence = values.at_fault(words, query) or ("", "")
    return BadQuery(f"the archive refuses the query: {words}{f' {sentence}' if sentence else ''}", field=column)
