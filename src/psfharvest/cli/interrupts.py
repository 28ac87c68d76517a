"""
Signals that end a command: each does, also one that comes where Python can raise nothing.

SIGTERM and SIGHUP raise what SIGINT (Ctrl-C) raises, so that what is half written is removed after them, too.
Python raises `KeyboardInterrupt` wherever the main thread is. In a finalizer or a weak reference's callback, of
which every import has some, it prints a traceback and drops the exception, and the command would go on.
"""

from __future__ import annotations

import _thread
import functools
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

AGAIN_S = 0.01
"""After which an interrupt that was dropped comes again."""
ENDS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that end a command."""


class Ended(KeyboardInterrupt):
    """Raised by the signal `signum`, which is not SIGINT."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def listen() -> None:
    """
    Have each signal raise `KeyboardInterrupt` in the main thread, and again where it was dropped.

    One that the caller has ignored (nohup) stays ignored; SIGINT does not, which shells ignore for what they start
    in the background.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for signum in ENDS[1:]:
        if signal.getsignal(signum) == signal.SIG_DFL:
            signal.signal(signum, _end)
    sys.unraisablehook = _again


def number(error: BaseException | None) -> int:
    """Return the number of the signal that raised an error."""
    return error.signum if isinstance(error, Ended) else signal.SIGINT


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Put the handlers of today back at the end: an event loop leaves the system's."""
    before = {signum: signal.getsignal(signum) for signum in ENDS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            if handler is not None:  # else it was set outside of Python
                signal.signal(signum, handler)


@contextmanager
def held_back() -> Iterator[Callable[[], None]]:
    """
    Let the signals wait, where the system can, until what is yielded is called, at the latest until the end.

    Half an object cannot be finalized in silence.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield lambda: None
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)

    def let_through() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        yield let_through
    finally:
        let_through()


def _end(signum: int, frame: object) -> NoReturn:
    del frame
    raise Ended(signum)


def _again(dropped: sys.UnraisableHookArgs) -> None:
    if issubclass(dropped.exc_type, KeyboardInterrupt):
        # Raised here, it would be dropped once more.
        _thread.start_new_thread(functools.partial(_interrupt, number(dropped.exc_value)), ())
    else:
        sys.__unraisablehook__(dropped)


def _interrupt(signum: int) -> None:
    time.sleep(AGAIN_S)
    _thread.interrupt_main(signal.Signals(signum))
