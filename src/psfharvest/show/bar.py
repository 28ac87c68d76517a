"""The progress bar of the Python interface: tqdm's, a widget in a notebook that has them, else a line of text."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from inspect import iscoroutinefunction
from typing import Any

from psfharvest.core.errors import BadInput
from psfharvest.core.harvest_rate import expected, settled
from psfharvest.core.model import Progress
from psfharvest.show.progress import bar, outage_words

_LOGGER = logging.getLogger("psfharvest.run")

Watch = Callable[[Progress], None]
"""What a caller may give as ``progress``, beside True, False and None."""


@contextmanager
def watching(progress: bool | Watch | None, unit: str = "cutout") -> Iterator[Watch | None]:
    """
    Give the function to call with each `Progress`, or None; a bar of ours ends with the context.

    What shows progress never ends the work: when it raises, that is logged once, and it is called no more.

    Parameters
    ----------
    progress
        True draws a bar; a function is called as it is; False and None show nothing.
    unit
        What the bar counts.

    Raises
    ------
    BadInput
        For anything else.
    """
    given: object = progress
    if progress is None or progress is False:
        yield None
    elif progress is True:
        drawn = _Bar(unit)
        try:
            yield _Harmless(drawn)
        finally:
            with suppress(OSError, ValueError):  # of a broken standard error
                drawn.close()
    elif not callable(given) or iscoroutinefunction(given):
        raise BadInput(
            f"progress is {progress!r}: True (a bar), False (nothing), or a function of one Progress is allowed"
        )
    else:
        yield _Harmless(given)


class _Harmless:
    """Calls what shows progress until that raises."""

    def __init__(self, watch: Watch) -> None:
        self._watch: Watch | None = watch

    def __call__(self, progress: Progress) -> None:
        """Show how far it has come, if that still works."""
        if self._watch is None:
            return
        try:
            self._watch(progress)
        except Exception:
            _LOGGER.exception("progress is not shown any more: %r raised", self._watch)
            self._watch = None


class _Bar:
    """A tqdm bar that follows a harvest; it is drawn with the first look."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._bar: Any = None

    def __call__(self, progress: Progress) -> None:
        """Show how far it has come."""
        n, total = settled(progress), expected(progress) or None
        if self._bar is None:
            self._bar = bar(total, n, unit=self._unit)
        self._bar.total = total
        self._bar.set_postfix_str(_trouble(progress), refresh=False)
        self._bar.update(n - self._bar.n)
        self._bar.refresh()

    def close(self) -> None:
        """End the bar; it keeps standing as it is."""
        if self._bar is not None:
            self._bar.close()


def _trouble(progress: Progress) -> str:
    if progress.outage:
        return outage_words(progress)
    counts = [
        (progress.tally.failed, "failed"),
        (progress.tally.missing, "missing"),
        (progress.waiting, "to retry"),
    ]
    return ", ".join(f"{n:,} {word}" for n, word in counts if n)
