"""The harvest's bar and lines, from looks alone: widths, outages, the last frame."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfharvest.core.harvest_rate import HarvestRate
from psfharvest.core.model import Progress, Tally
from psfharvest.show.progress import Reporter, frame

COUNTS = st.integers(0, 10**8)
WORDS = "503 Service Unavailable: the database is being moved to another building"


class Terminal(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


def look(done: int, pending: int, elapsed_s: float = 1.0, outage: str = "", failed: int = 0) -> Progress:
    tally = Tally(done=done, failed=failed, pending=pending)
    return Progress(tally, None, 3, 0, 6, done, elapsed_s, outage, outage_s=60.0, patience_s=3600.0)


@given(COUNTS, COUNTS, COUNTS, st.integers(1, 300), st.sampled_from(["", WORDS]))
def test_a_frame_is_narrower_than_the_terminal(done, failed, pending, width, outage) -> None:
    """At any width; counts come first, and stand whole where there is room for them."""
    rate = HarvestRate()
    progress = look(done, pending, outage=outage, failed=failed)
    rate.add(progress)
    shown = frame(progress, rate, width)
    counts = f"{done + failed:,}/{done + failed + pending:,}"

    assert len(shown) < max(2, width)
    assert counts in shown or len(counts) > width - 1
    if failed and not outage and width >= 40:
        assert f"{failed:,} failed" in shown


def test_an_outage_is_told_once_in_full_on_a_terminal() -> None:
    """Since when, until when and why, as a line that stays; no time left meanwhile; and that it is over."""
    terminal = Terminal()
    with Reporter(terminal) as reporter:
        reporter(look(10, 90, 1.0))
        reporter(look(20, 80, 2.0))
        for elapsed_s in (3.0, 4.0, 5.0):
            reporter(look(20, 80, elapsed_s, outage=WORDS))
        during = terminal.getvalue()
        reporter(look(30, 70, 6.0))
        reporter(look(100, 0, 7.0))
    lines = terminal.getvalue().split("\n")

    assert 1 == sum(WORDS in line for line in lines)
    assert "archive down since" in during
    assert "trying until" in during
    assert " left" not in during.split(WORDS)[1]
    assert any("the archive answers again" in line for line in lines)
    assert "100/100" in lines[-2].split("\r")[-1]


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_the_last_look_is_the_last_shown(stream) -> None:
    """However quickly it came after the one before."""
    out = stream()
    with Reporter(out) as reporter:
        for n in range(101):
            reporter(look(n, 100 - n, n / 1000))

    assert "100" in out.getvalue().strip().split("\r")[-1].split("\n")[-1]


@pytest.mark.parametrize("outage", ["", WORDS], ids=["up", "down"])
@pytest.mark.parametrize("per_look", [0, 1])
@pytest.mark.parametrize("first_s", [0, 1000])
def test_lines_of_a_run_in_trouble_come_each_second(first_s: int, outage: str, per_look: int) -> None:
    """So do those of its first minute; a long run that comes on well writes fewer, for the sake of its log."""
    out = io.StringIO()
    now_s = 0.0
    with Reporter(out, now=lambda: now_s) as reporter:
        for n in range(30):
            now_s = float(n)
            reporter(look(n * per_look, 100, first_s + now_s, outage=outage))

    n_lines = 30 if first_s == 0 or per_look == 0 or outage else 6
    assert n_lines <= out.getvalue().count("\n") <= n_lines + 1


def test_the_rate_forgets_a_pause() -> None:
    """Time left follows the last half minute, not the whole run."""
    rate = HarvestRate()
    for elapsed_s in range(1000):
        rate.add(look(0, 1000, float(elapsed_s)))
    for n in range(40):
        rate.add(replace(look(n * 10, 1000 - n * 10, 1000.0 + n)))

    assert 9 < rate.per_second < 11
