"""Durations and times of day as people read them."""

from __future__ import annotations

import time


def clock(seconds: float) -> str:
    """Return a duration as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def iso(epoch_s: float) -> str:
    """Return a moment as local ISO time with its offset."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(epoch_s))


def time_of_day(epoch_s: float, now_s: float) -> str:
    """Return a moment as ``hh:mm``, with its date where that is another day."""
    moment, now = time.localtime(epoch_s), time.localtime(now_s)
    return time.strftime("%H:%M" if moment[:3] == now[:3] else "%Y-%m-%d %H:%M", moment)
