"""
Verification of answers: each is a verified body, or the failure that it means. The one place that decides so.

What makes a body the asked cutout is checked in `psfharvest.core.fits`: kind, quirks, then the strict check.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import UTC, datetime

import anyio.from_thread

from psfharvest.archive.endpoints import without
from psfharvest.archive.wires.base import Answer, Headers
from psfharvest.core.fits import filekinds, fitscheck
from psfharvest.core.fits.quirks import Verdict
from psfharvest.core.model import Delivery, Evidence, Failure, Item, Reason
from psfharvest.core.policy.retry import answered_at, classify_status
from psfharvest.core.reasons import BEYOND_LIMITS, INCOMPLETE

MIN_CAP_BYTES = 2 * 2**20
CAP_BYTES_A_PIXEL = 32
FINGERPRINT_BYTES = 12
AT_ONCE_MAX_BYTES = 2**17
"""Body of which check and hash take 0.2 ms."""
_PASSING = frozenset({407, 408, 425, 429, 502, 503, 504})
"""Statuses of servers in between, or of an archive that is busy: the same answer twice says nothing of a cutout."""


def max_body_bytes(item: Item, limit: int) -> int:
    """
    Return how large an item's body may be: for a cutout some times what its pixels take, not all that is allowed.

    It comes in powers of two, so that requests for cutouts of nearly one size look alike to a wire.
    """
    if item.size_px is None:
        return limit
    cap = max(MIN_CAP_BYTES, 1 << (CAP_BYTES_A_PIXEL * item.size_px**2 - 1).bit_length())
    return min(limit, cap)


def failure_of(answer: Answer) -> Failure | None:
    """Return why an answer is no success as HTTP sees it, or None."""
    if answer.failure is not None:
        failure = answer.failure
        return failure._replace(rule=failure.reason.value) if failure.reason in BEYOND_LIMITS else failure
    if 200 <= answer.status < 300:
        return None
    failure = status_failure(
        answer.status, answer.retry_after, answer.body, answer.request.credentials, date=answer.date
    )
    if answer.status in _PASSING or failure.retry_after_s is not None:
        return failure
    is_text = answer.body.lstrip()[:1] != b"<"
    return failure._replace(fingerprint=fingerprint_of(answer.status, answer.body), is_text=is_text)


def fingerprint_of(status: int, body: bytes) -> bytes:
    """Return a digest that is equal for equal answers."""
    return hashlib.sha256(b"%d " % status + body).digest()[:FINGERPRINT_BYTES]


def status_failure(
    status: int, retry_after: str | None, body: bytes, secrets: Headers = (), *, date: str | None = None
) -> Failure:
    """Return the failure that a status other than 2xx means; fitscut's own words go before the status."""
    words = without(secrets, fitscheck.error_text(body))
    if fitscheck.OFF_DETECTOR_TEXT in body[:8192]:
        return Failure(Reason.OFF_DETECTOR, words, evidence=Evidence.ALIVE)
    return classify_status(status, retry_after, words, answered_at(date, datetime.now(UTC)))


def deliver_in_thread(item: Item, body: bytes, secrets: Headers = (), accepted: Collection[str] = ()) -> Delivery:
    """
    Return the delivery of a body: checked against what was asked, and hashed when it is right.

    Call it in a worker thread of anyio's: there a check that takes seconds ends when its task is cancelled.

    Parameters
    ----------
    item, body
        What was asked for, and what came.
    secrets
        What no message may show.
    accepted
        Names of deviations that pass; see `psfharvest.core.fits.accepted_deviations`.
    """
    found = filekinds.verdict(item, body, accepted, anyio.from_thread.check_cancelled)
    return _delivery(item, body, found, secrets)


def deliver_at_once(
    item: Item, body: bytes, secrets: Headers = (), accepted: Collection[str] = ()
) -> Delivery | None:
    """Return `deliver_in_thread` where it takes less than a millisecond; else None: it belongs into a thread."""
    found = filekinds.plain_verdict(item, body, accepted) if len(body) <= AT_ONCE_MAX_BYTES else None
    return None if found is None else _delivery(item, body, found, secrets)


def _delivery(item: Item, body: bytes, found: Verdict, secrets: Headers) -> Delivery:
    flaw, quirk = found
    if flaw is None:
        return Delivery(item, body, hashlib.sha256(body).digest(), quirk=quirk)
    is_complete = flaw.reason not in INCOMPLETE
    failure = Failure(
        flaw.reason,
        without(secrets, flaw.detail),
        evidence=Evidence.ALIVE if is_complete else Evidence.NONE,
        status=200,
        fingerprint=fingerprint_of(200, body) if is_complete else b"",
        is_text=flaw.reason is Reason.TEXT_PAGE,
        rule="" if flaw.reason is Reason.OFF_DETECTOR else flaw.rule or flaw.reason.value,
    )
    return Delivery(item, None, failure=failure)
