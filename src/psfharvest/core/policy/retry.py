"""
Decide what follows a failed request: retry after a delay, fail, or mark as missing.

The arithmetic of the back-off is tenacity's; the draw comes in as an argument, so that a decision is a value.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import tenacity

from psfharvest.core.model import Evidence, Failure, Reason, RetryPolicy, State
from psfharvest.core.reasons import FINAL, MISSING

MAX_SLEEP_S = 600.0
"""No single wait is longer; an archive that asks for more is taken to be down."""

_BY_STATUS = {
    401: Reason.UNAUTHORIZED,
    403: Reason.FORBIDDEN,
    404: Reason.NOT_FOUND,
    410: Reason.NOT_FOUND,
    429: Reason.RATE_LIMITED,
}


class Again(NamedTuple):
    """Try again after `delay_s`."""

    delay_s: float


class Final(NamedTuple):
    """Do not try again: the item's state is this."""

    state: State


def decide(failure: Failure, attempts: int, policy: RetryPolicy, draw: float) -> Again | Final:
    """
    Decide what becomes of an item after its `attempts`-th failed request.

    Parameters
    ----------
    failure
        Why the last request gave nothing.
    attempts
        Requests charged so far, this one included.
    draw
        A number in ``[0, 1)`` that spreads the delays.

    Returns
    -------
    Again or Final
    """
    if failure.reason in MISSING:
        return Final(State.MISSING)
    if failure.is_final or failure.reason in FINAL or attempts >= policy.attempts:
        return Final(State.FAILED)
    asked_s = failure.retry_after_s or 0.0
    return Again(min(max(asked_s, backoff_s(attempts, policy, draw)), MAX_SLEEP_S))


def backoff_s(n_failures: int, policy: RetryPolicy, draw: float) -> float:
    """Return the delay after `n_failures` in a row: exponential, half of it fixed and half of it drawn."""
    state = _state(n_failures)
    whole = tenacity.wait_exponential(multiplier=policy.first_delay_s, max=policy.max_delay_s)(state)
    return whole * (0.5 + 0.5 * draw)


def retrying(
    policy: RetryPolicy,
    sleep: Callable[[float], Any],
    draw: Callable[[], float],
    is_transient: Callable[[Any], bool],
) -> tenacity.AsyncRetrying:
    """
    Return a tenacity loop by the same rules, for one request that is awaited as a whole (a query).

    It stops once the next delay would end past the policy's patience, and raises the last error itself.
    """
    return tenacity.AsyncRetrying(
        sleep=sleep,
        wait=lambda state: _query_wait_s(state, policy, draw()),
        stop=tenacity.stop_all(
            tenacity.stop_before_delay(policy.patience_s),
            tenacity.stop_after_attempt(2 if policy.patience_s else 1),
        ),
        retry=tenacity.retry_if_exception(is_transient),
        reraise=True,
    )


def classify_status(status: int, retry_after: str | None, detail: str, now: datetime) -> Failure:
    """Return the failure that an HTTP status means; 2xx is never asked here."""
    server = 500 <= status < 600
    reason = _BY_STATUS.get(status, Reason.SERVER_ERROR if server else Reason.HTTP_ERROR)
    evidence = Evidence.ERRING if server or status == 429 else Evidence.ALIVE
    wait_s = parse_retry_after(retry_after, now) if status in (429, 503) else None
    return Failure(reason, f"HTTP {status}{': ' if detail else ''}{detail}", wait_s, evidence, status)


def answered_at(date: str | None, own: datetime) -> datetime:
    """
    Return the time of an answer on its server's clock, against which a ``Retry-After`` date is meant.

    Parameters
    ----------
    date
        The answer's ``Date`` header.
    own
        The time on our clock, which stands in where there is no such header, or an unreadable one.
    """
    return own if date is None else _parse_date(date) or own


def parse_retry_after(text: str | None, now: datetime) -> float | None:
    """Return the seconds that a ``Retry-After`` asks for, from either of its forms; None for none or nonsense."""
    if not text:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    when = _parse_date(text)
    return None if when is None else max(0.0, (when - now).total_seconds())


def _parse_date(text: str) -> datetime | None:
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _query_wait_s(state: tenacity.RetryCallState, policy: RetryPolicy, draw: float) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    asked_s = getattr(getattr(error, "failure", None), "retry_after_s", None) or 0.0
    return min(max(asked_s, backoff_s(state.attempt_number, policy, draw)), MAX_SLEEP_S)


def _state(attempt: int) -> tenacity.RetryCallState:
    state = tenacity.RetryCallState(_NO_RETRYING, None, (), {})
    state.attempt_number = attempt
    return state


_NO_RETRYING = tenacity.Retrying()
