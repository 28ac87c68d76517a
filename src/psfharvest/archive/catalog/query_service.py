"""
One question to the query service: sent with retries and polled until it is answered, its errors classified.

What the archive says of the query itself (an unknown column, a value that it cannot convert) is the caller's to
mend and is shown in its own words; everything else is tried again until the patience ends.
"""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

import anyio
import anyio.from_thread
import anyio.to_thread

from psfharvest.archive.catalog import answer as answers
from psfharvest.archive.catalog.rows import Rows, Unreadable
from psfharvest.archive.endpoints import Endpoints, without
from psfharvest.archive.fetch.verify import failure_of
from psfharvest.archive.wires.base import FORM, Request, Wire
from psfharvest.core.catalog import columns as known
from psfharvest.core.catalog import values
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
T = TypeVar("T", int, Rows)


class Trouble(Exception):
    """Raised when a question failed; another try, or a smaller question, may be answered."""

    def __init__(self, failure: Failure, n_asked: int = 0, *, is_refused: bool = False) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.n_asked = n_asked
        self.is_refused = is_refused
        """True where the archive answered, in words, that it cannot."""


class QueryService:
    """
    Sends one question at a time and returns its answer.

    Parameters
    ----------
    wire, limiter, endpoints, limits, policy
        What moves the bytes, who may send, where to, the caps, and the patience.
    """

    def __init__(
        self, wire: Wire, limiter: HostLimiter, endpoints: Endpoints, limits: Limits, policy: RetryPolicy
    ) -> None:
        self._wire = wire
        self._limiter = limiter
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

    async def ask(
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
        Trouble
            After `max_failures` answers, where given, that may have been more than the archive can deliver.
        """
        max_bytes = min(MAX_ANSWER_BYTES, MAX_FRAME_BYTES + n_rows * MAX_ROW_BYTES)
        subject = _new_job(payload)
        request = self._template._replace(body=subject, max_bytes=max_bytes)
        n_undelivered = 0
        began_at = anyio.current_time()

        def may_repeat(error: BaseException) -> bool:
            nonlocal n_undelivered
            if isinstance(error, Trouble) and error.failure.reason in ANSWER_TOO_LARGE:
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
        except Trouble as trouble:
            if max_failures and n_undelivered >= max_failures:
                raise
            raise self._given_up(trouble) from trouble
        raise AssertionError("a retry loop ends by a value or an error")

    async def ask_once(self, payload: dict[str, Any]) -> Failure | None:
        """
        Ask at once and once; return why there was no answer, or None.

        The failure's status is 200 where the archive refuses in words.
        """
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

    def down(self, words: str, reason: str = "archive_down", hint: str = "run again later") -> ArchiveDown:
        """Return the error of an archive that does not give what it should."""
        return ArchiveDown(f"{words}; {hint}", uri=self._template.url, reason=reason)

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

    def _given_up(self, trouble: Trouble) -> ArchiveDown:
        unreached = self._unreached()
        if unreached is not None:
            return unreached
        failure = trouble.failure
        why = self._limiter.explained(failure.detail or failure.reason, failure.reason)
        is_elsewhere = failure.status in (404, 405, 501)
        hint = f"is {self._template.url} an archive's address?" if is_elsewhere else "run again later"
        return self.down(f"the archive did not answer the query: {why}", failure.reason, hint)

    def _may_repeat(self, error: BaseException) -> bool:
        if not isinstance(error, Trouble):
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
        raise Trouble(Failure(Reason.TIMEOUT, f"still executing after {polling_s:g} s"))

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
                    raise Trouble(failure, n_asked)
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


def _unreadable(words: str) -> Trouble:
    return Trouble(Failure(Reason.TEXT_PAGE, words, evidence=Evidence.ALIVE))


def _error(words: str, query: Query) -> Exception:
    if _OWN_FAULT.search(words) is None:
        failure = Failure(Reason.SERVER_ERROR, f"the archive says: {words}", evidence=Evidence.ALIVE)
        return Trouble(failure, is_refused=True)
    found = _COLUMN.search(words)
    if found is not None:
        near = known.near_matches(found[1], query.detector, cutoff=0.4)
        every = list(known.known_names(query.detector))
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        hint += f" Known columns of {query.detector.name}: {', '.join(every)}"
        return BadQuery(f"the archive refuses the query: {words}{hint}", field=found[1])
    column, sentence = values.at_fault(words, query) or ("", "")
    return BadQuery(f"the archive refuses the query: {words}{f' {sentence}' if sentence else ''}", field=column)
