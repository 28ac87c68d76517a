"""
Clocks that jump: what the wall clock is read for at all, and that no value of it does harm.

Everything that waits or measures goes by a monotonic clock; a jump of the wall clock can only reach what stands in
the table below.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from psfharvest.core.model import RetryPolicy, State
from psfharvest.core.policy.health import CircuitBreaker
from psfharvest.core.policy.retry import MAX_SLEEP_S, Again, Final, classify_status, decide, parse_retry_after

SRC = Path(__file__).parents[2] / "src" / "psfharvest"
WALL_CLOCK = re.compile(
    r"\b(time\.time|time_ns|datetime\.now|utcnow|today\(|strftime|gmtime|localtime|formatdate"
    r"|CURRENT_TIMESTAMP|st_mtime)\b"
)
READS_IT = {
    "store/manifest/migrate.py": "writes down a moment, or reads a date of the archive",
    "archive/fetch/verify.py": "turns the date form of Retry-After into seconds",
    "archive/fetch/bundle.py": "the same",
    "run/results.py": "writes down when a query's table was made, for people",
    "store/lease.py": "compares the times of two files of one file system",
    "filesystem/process.py": "writes down since when a folder is held, for people",
    "store/manifest/manifest.py": "writes down when a run began, for people",
    "notebook/dated.py": "names a folder by the minute, as the notebook does",
    "notebook/bundlefile.py": "dates the members of a tar",
    "events/hub.py": "dates events; nothing is decided by their dates",
    "run/learnt_cache.py": "writes down when something was learnt, for people",
    "show/durations.py": "writes moments for people",
    "show/progress.py": "says since when and until when, for people",
    "cli/early.py": "the same",
    "cli/logs.py": "the same",
    "serve/live.py": "dates the page's samples; the rate and the silence that it shows follow from these dates",
    "simulator/http/app.py": "names a bundle's folder",
    "simulator/http/delivery.py": "writes a Retry-After date",
    "simulator/http/wire.py": "writes a Date header",
}
"""Who reads the wall clock, and what for: never to wait, to decide what is new, or to measure for a harvest."""

MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2500, 1, 1), timezones=st.just(UTC))


def test_nobody_else_reads_the_wall_clock() -> None:
    """Who reads it stands in the table, and everybody in the table does."""
    found = {path.relative_to(SRC).as_posix() for path in SRC.rglob("*.py") if WALL_CLOCK.search(path.read_text())}

    assert set(READS_IT) == found


@given(MOMENTS, MOMENTS, st.sampled_from([429, 503]), st.integers(1, 6), st.floats(0, 1, exclude_max=True))
@example(datetime(1970, 1, 2, tzinfo=UTC), datetime(2400, 1, 1, tzinfo=UTC), 503, 1, 0.0)
@example(datetime(2400, 1, 1, tzinfo=UTC), datetime(1970, 1, 2, tzinfo=UTC), 429, 1, 0.0)
def test_a_date_to_come_back_at_never_takes_long(
    now: datetime, date: datetime, status: int, attempts: int, draw: float
) -> None:
    """However wrong our clock or the archive's: no pause is negative, or longer than ten minutes."""
    policy = RetryPolicy()
    failure = classify_status(status, format_datetime(date, usegmt=True), "", now)
    verdict = decide(failure, attempts, policy, draw)
    breaker = CircuitBreaker(policy)
    breaker.failure(failure, "a cutout", 1000.0, draw)

    assert failure.retry_after_s is not None
    assert failure.retry_after_s >= 0
    match verdict:
        case Again(delay_s):
            assert policy.first_delay_s / 2 <= delay_s <= MAX_SLEEP_S
        case Final(state):
            assert (State.FAILED, True) == (state, attempts >= policy.attempts)
    assert breaker.probe_at <= 1000.0 + MAX_SLEEP_S


@given(MOMENTS, st.integers(0, 10**6))
def test_a_date_means_its_distance(now: datetime, seconds: int) -> None:
    """Where both clocks agree, the date form says what the form in seconds says."""
    date = format_datetime(now.replace(microsecond=0) + timedelta(seconds=seconds), usegmt=True)

    assert abs(parse_retry_after(date, now) - float(parse_retry_after(str(seconds), now))) <= 1
