"""
How far a harvest has come, for people: a bar on a terminal, a plain line with its time elsewhere.

Everything goes to standard error; what cannot be written there is dropped.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TextIO, TypeVar

from psfharvest.core.harvest_rate import HarvestRate, expected, settled
from psfharvest.core.model import Progress
from psfharvest.show.durations import clock, iso, time_of_day
from psfharvest.show.unbreakable import UnbreakableStream

LINE_EVERY_S = 5.0
"""Between two lines of a run that is well under way."""
SOON_EVERY_S, SOON_S = 0.9, 60.0
"""Between two lines of a run that has just begun, or to which nothing comes: never silent for two seconds."""
DEFAULT_WIDTH = 80
BAR_WIDTH = 24
MIN_BAR_WIDTH = 6
T = TypeVar("T")


class Reporter:
    """
    Show a harvest's progress; call it with each `Progress`.

    Parameters
    ----------
    stream
        Where to; the bar is drawn when it is a terminal.
    is_quiet
        Whether to show nothing at all.
    now
        A clock, in seconds, that never goes back.
    """

    def __init__(
        self, stream: TextIO | None = None, *, is_quiet: bool = False, now: Callable[[], float] = time.monotonic
    ) -> None:
        found = stream or sys.stderr
        self._is_quiet = is_quiet or found is None  # a daemon may have no standard error at all
        self._stream = UnbreakableStream(found)
        self._is_terminal = not self._is_quiet and self._stream.isatty()
        self._rate = HarvestRate()
        self._last: Progress | None = None
        self._shown: Progress | None = None
        self._shown_at = 0.0
        self._now = now
        self._drawn_chars = 0
        self._outage = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._last is not None and self._last is not self._shown:
            self._show(self._last)
        if self._drawn_chars:
            self._write("\n")

    def __call__(self, progress: Progress) -> None:
        """Show the progress."""
        if self._is_quiet:
            return
        self._last = progress
        self._rate.add(progress)
        is_news = bool(progress.outage) != bool(self._outage)
        if is_news and self._is_terminal:
            self._interject(outage_words(progress) if progress.outage else "the archive answers again")
        self._outage = progress.outage
        if self._is_terminal or is_news or self._is_due(progress):
            self._show(progress)

    @property
    def has_begun(self) -> bool:
        """Whether there was any progress to show yet."""
        return self._last is not None

    def line(self, progress: Progress) -> str:
        """Return one line that says it all."""
        n_settled, total = settled(progress), expected(progress)
        share = f" ({100 * n_settled / total:.1f} %)" if total else ""
        if progress.outage:
            return f"{n_settled:,} of {total:,}{share}, {outage_words(progress)}"
        left_s = self._rate.left_s(progress)
        left = f", {clock(left_s)} left" if left_s is not None else ""
        return f"{n_settled:,} of {total:,}{share}, {self._rate.per_second:.1f}/s, {_in_words(progress)}{left}"

    def _is_due(self, progress: Progress) -> bool:
        if self._shown is None:
            return True
        is_stalled = bool(progress.outage) or settled(progress) == settled(self._shown)
        pause_s = SOON_EVERY_S if is_stalled or progress.elapsed_s < SOON_S else LINE_EVERY_S
        return self._now() - self._shown_at >= pause_s

    def _show(self, progress: Progress) -> None:
        self._shown, self._shown_at = progress, self._now()
        if not self._is_terminal:
            self._write(f"psfharvest: {iso(time.time())} {self.line(progress)}\n")
            return
        drawn = frame(progress, self._rate, self._width())
        self._write("\r" + drawn.ljust(self._drawn_chars))
        self._drawn_chars = len(drawn)

    def _interject(self, words: str) -> None:
        """Write a line that stays, above the bar."""
        self._write("\r" + " " * self._drawn_chars + f"\rpsfharvest: {words}\n")
        self._drawn_chars = 0

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or DEFAULT_WIDTH
        except (OSError, ValueError):
            return DEFAULT_WIDTH


def frame(progress: Progress, rate: HarvestRate, width: int) -> str:
    """
    Return the bar's line, shorter than `width`: counts first, then what matters most, as far as there is room.

    During an outage its words take the place of bar, rate and time left.
    """
    room = max(1, width - 1)
    n_settled, total = settled(progress), expected(progress)
    counts = f"{n_settled:,}/{total:,}"
    if progress.outage:
        return f"{counts} {outage_words(progress)}"[:room]
    tally = progress.tally
    left_s = rate.left_s(progress)
    parts = [
        f"{tally.failed:,} failed" if tally.failed else "",
        f"{tally.missing:,} missing" if tally.missing else "",
        f"{100 * n_settled / total:.0f}%" if total else "",
        f"{clock(left_s)} left" if left_s is not None else "",
        f"{rate.per_second:.1f}/s" if rate.per_second else "",
        f"{progress.arrived:,} arrived" if progress.arrived else "",
        f"{progress.waiting:,} to retry" if progress.waiting else "",
        f"{progress.in_flight} in flight" if progress.in_flight else "",
    ]
    drawn = counts
    for part in filter(None, parts):
        if len(drawn) + len(part) + 2 <= room:
            drawn += f"  {part}"
    bar_chars = min(BAR_WIDTH, room - len(drawn) - 3)
    if bar_chars >= MIN_BAR_WIDTH and total:
        filled = bar_chars * n_settled // total
        drawn = f"[{'#' * filled}{'.' * (bar_chars - filled)}] {drawn}"
    return drawn[:room]


def outage_words(progress: Progress) -> str:
    """Return since when the archive has been down, until when it is tried, and the reason in full."""
    now_s = time.time()
    since_s = now_s - progress.outage_s
    since, until = time_of_day(since_s, now_s), time_of_day(since_s + progress.patience_s, now_s)
    return f"archive down since {since}, trying until {until}: {progress.outage}"


def bar(total: int | None, initial: int = 0, items: Iterable[Any] | None = None, unit: str = "it") -> Any:
    """Return the progress bar that fits where we are: a widget in a notebook that has them, else a line of text."""
    from tqdm import TqdmWarning  # noqa: PLC0415 - only where a bar is drawn

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # no widgets here: a line of text will do
        from tqdm.auto import tqdm  # noqa: PLC0415

    if any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__):
        return tqdm(items, total=total, initial=initial, unit=unit)
    stream = UnbreakableStream(sys.stderr)
    return tqdm(items, total=total, initial=initial, unit=unit, file=stream, dynamic_ncols=True)


def _in_words(progress: Progress) -> str:
    words = [f"{progress.in_flight} in flight", f"{progress.tally.failed:,} failed"]
    if progress.arrived:
        words.insert(0, f"{progress.arrived:,} arrived, not yet verified")
    if progress.tally.missing:
        words.append(f"{progress.tally.missing:,} missing")
    if progress.waiting:
        words.append(f"{progress.waiting:,} to retry")
    return ", ".join(words)


def counted(things: Iterable[T], total: int, stream: TextIO, *, is_quiet: bool) -> Iterator[T]:
    """Pass things on and show how many of `total` have passed: a bar on a terminal, nothing elsewhere."""
    if is_quiet or not stream.isatty():
        yield from things
        return
    from tqdm import tqdm  # noqa: PLC0415 - only where a bar is drawn

    yield from tqdm(things, total=total, unit="cutout", file=stream, dynamic_ncols=True)
