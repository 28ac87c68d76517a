"""
Interrupts (Ctrl-C) of a command: each ends it, also one that comes where Python can raise nothing.

Python raises `KeyboardInterrupt` wherever the main thread is. In a finalizer or a weak reference's callback, of
which every import has some, it prints a traceback and drops the exception, and the command would go on.
"""

from __future__ import annotations

import _thread
import signal
import sys
import time

AGAIN_S = 0.01
"""After which an interrupt that was dropped comes again."""


def listen() -> None:
    """Have SIGINT raise `KeyboardInterrupt` in the main thread, and again where it was dropped."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.unraisablehook = _again


def _again(dropped: sys.UnraisableHookArgs) -> None:
    if issubclass(dropped.exc_type, KeyboardInterrupt):
        _thread.start_new_thread(_interrupt, ())  # raised here, it would be dropped once more
    else:
        sys.__unraisablehook__(dropped)


def _interrupt() -> None:
    time.sleep(AGAIN_S)
    _thread.interrupt_main()
