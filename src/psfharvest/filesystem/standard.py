"""The standard descriptors 0, 1 and 2, which may be closed or broken when a process starts."""

from __future__ import annotations

import os
from typing import TextIO

STANDARD = (0, 1, 2)


def open_missing() -> None:
    """Open those that are closed on nothing: a file of ours with such a number would be written to by mistake."""
    for number in STANDARD:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one


def discard(stream: TextIO) -> None:
    """Let a broken stream's descriptor lead nowhere, so that what it still holds is dropped when it is closed."""
    try:
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
    except (OSError, ValueError):
        return
