"""
How far a harvest has come, for people: a bar on a terminal, a plain line every few seconds elsewhere.

Everything goes to standard error.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Self, TextIO, TypeVar

from psfharvest.core.model import Progress
from psfharvest.show.unbreakable import UnbreakableStream

LINE_EVERY_S = 5.0
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
    """

    def __init__(self, stream: TextIO | None = None, *, is_quiet: bool = False) -> None:
        found = stream or sys.stderr
        self._is_quiet = is_quiet or found is None  # a daemon may have no standard error at all
        self._stream = UnbreakableStream(found)
        self._is_terminal = not self._is_quiet and self._stream.isatty()
        self._bar: Any = None
        self._shown_at = float("-inf")
        self._first: tuple[float, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, progress: Progress) -> None:
        """Show the progress."""
        if self._is_quiet:
            return
        if self._first is None:
            self._first = (progress.elapsed_s, _received(progress))
        try:
            self._show(progress)
        except OSError:
            self._is_quiet = True  # nobody can read it any more; the harvest goes on

    def _show(self, progress: Progress) -> None:
        if self._is_terminal:
            self._draw(progress)
        elif time.monotonic() - self._shown_at >= LINE_EVERY_S:
            self._shown_at = time.monotonic()
            self._stream.write(f"psfharvest: {self.line(progress)}\n")
            self._stream.flush()

    def line(self, progress: Progress) -> str:
        """Return one line that says it all."""
        total = _expected(progress)
        settled = _settled(progress)
        rate = self._rate(progress)
        share = f" ({100 * settled / total:.1f} %)" if total else ""
        left = f", {_clock((total - settled) / rate)} left" if rate > 0 and total > settled else ""
        return f"{settled:,} of {total:,}{share}, {rate:.1f}/s, {_trouble(progress)}{left}"

    def _draw(self, progress: Progress) -> None:
        settled = _settled(progress)
        if self._bar is None:
            from tqdm import tqdm  # noqa: PLC0415 - only where a bar is drawn

            self._bar = tqdm(
                total=_expected(progress),
                initial=settled,
                unit="cutout",
                file=self._stream,
                dynamic_ncols=True,
                smoothing=0.1,
                mininterval=0.1,
            )
        self._bar.total = _expected(progress)
        self._bar.set_postfix_str(_trouble(progress), refresh=False)
        self._bar.update(settled - self._bar.n)
        self._bar.refresh()

    def _rate(self, progress: Progress) -> float:
        since_s, before = self._first or (0.0, 0)
        passed_s = progress.elapsed_s - since_s
        return max(0, _received(progress) - before) / passed_s if passed_s > 0 else 0.0


def bar(total: int, initial: int = 0, items: Iterable[Any] | None = None) -> Any:
    """Return the progress bar that fits where we are: a widget in a notebook that has them, else a line of text."""
    from tqdm import TqdmWarning  # noqa: PLC0415 - only where a bar is drawn

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # no widgets here: a line of text will do
        from tqdm.auto import tqdm  # noqa: PLC0415

    if any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__):
        return tqdm(items, total=total, initial=initial)
    return tqdm(items, total=total, initial=initial, file=UnbreakableStream(sys.stderr))


def _settled(progress: Progress) -> int:
    return progress.tally.total - progress.tally.pending


def _received(progress: Progress) -> int:
    """Return what is settled or has arrived: bundles are settled all at once, but come steadily."""
    return _settled(progress) + progress.arrived


def _expected(progress: Progress) -> int:
    return max(progress.expected or 0, progress.tally.total)


def _trouble(progress: Progress) -> str:
    if progress.outage:
        return f"waiting: the archive is down ({progress.outage[:80]})"
    words = [f"{progress.in_flight} in flight", f"{progress.tally.failed:,} failed"]
    if progress.arrived:
        words.insert(0, f"{progress.arrived:,} arrived, not yet verified")
    if progress.tally.missing:
        words.append(f"{progress.tally.missing:,} missing")
    if progress.waiting:
        words.append(f"{progress.waiting:,} to retry")
    return ", ".join(words)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def counted(things: Iterable[T], total: int, stream: TextIO, *, is_quiet: bool) -> Iterator[T]:
    """Pass things on and show how many of `total` have passed: a bar on a terminal, nothing elsewhere."""
    if is_quiet or not stream.isatty():
        yield from things
        return
    from tqdm import tqdm  # noqa: PLC0415 - only where a bar is drawn

    yield from tqdm(things, total=total, unit="cutout", file=stream, dynamic_ncols=True)
