"""Progress of work that counts cutouts: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, Self

from psfharvest.cli.output import say

LINE_EVERY_S = 2.0


class PacedLines:
    """Lines on standard error, one every few seconds at most; none when `is_quiet`."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._is_quiet = is_quiet
        self._shown_at = time.monotonic()

    def say(self, text: str) -> None:
        """Say it, if it is time for another line."""
        if not self._is_quiet and time.monotonic() - self._shown_at >= LINE_EVERY_S:
            self._shown_at = time.monotonic()
            say(text)


class BarOrLines:
    """A bar that is drawn with the first figures, or paced lines where standard error is no terminal."""

    def __init__(self, *, is_quiet: bool) -> None:
        self._is_quiet = is_quiet
        self._lines = PacedLines(is_quiet=is_quiet)
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, n: int, total: int, line: str, beside_bar: str = "") -> None:
        """Show that `n` of `total` cutouts are done: `line` says so in words."""
        if self._is_quiet or not sys.stderr.isatty():
            self._lines.say(line)
            return
        if self._bar is None:
            from psfharvest.show.progress import bar  # noqa: PLC0415 - on a terminal only

            self._bar = bar(total, unit="cutout")
        self._bar.total = total
        self._bar.set_postfix_str(beside_bar, refresh=False)
        self._bar.update(n - self._bar.n)
