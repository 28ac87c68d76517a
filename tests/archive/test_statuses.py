"""What an answer with another status than 2xx becomes: its pause, by the clock of the server where it tells it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from psfharvest.archive.fetch.verify import failure_of
from psfharvest.archive.wires.base import Answer, Request


@pytest.mark.parametrize("hours", [-9, 0, 9])
def test_a_pause_until_a_date_is_counted_by_the_servers_clock(hours: int) -> None:
    """A clock that is wrong here makes the pause neither nothing nor hours."""
    theirs = datetime.now(UTC) + timedelta(hours=hours)
    date, later = (format_datetime(t, usegmt=True) for t in (theirs, theirs + timedelta(seconds=40)))
    failure = failure_of(Answer(Request("http://archive.example/"), 503, b"busy", later, date=date))

    assert failure is not None
    assert 40.0 == failure.retry_after_s


def test_a_pause_until_a_date_without_the_servers_time_is_counted_by_ours() -> None:
    """There is no other clock then."""
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    failure = failure_of(Answer(Request("http://archive.example/"), 429, b"", later))

    assert failure is not None
    assert failure.retry_after_s == pytest.approx(40.0, abs=20.0)
