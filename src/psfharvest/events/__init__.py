"""
The events of harvests and archives: what happens, as frozen values, in batches.

Give a function to `Archive(events=...)` or `Archive.harvest(..., events=...)`, or read `Archive.events()`. The sum
of all `Settled` less all `TakenBack` is the change of a folder's account. No event carries a token.
"""

from psfharvest.events.hub import EventStream, Hub, Listener, Voice
from psfharvest.events.model import (
    DURATION_BOUNDS_S,
    Asked,
    Bundled,
    Delivered,
    Down,
    Ended,
    Event,
    Paused,
    Pulse,
    Queried,
    Resumed,
    Retried,
    Settled,
    Started,
    Switched,
    TakenBack,
    Throttled,
    Up,
)
from psfharvest.events.words import plain

__all__ = [
    "DURATION_BOUNDS_S",
    "Asked",
    "Bundled",
    "Delivered",
    "Down",
    "Ended",
    "Event",
    "EventStream",
    "Hub",
    "Listener",
    "Paused",
    "Pulse",
    "Queried",
    "Resumed",
    "Retried",
    "Settled",
    "Started",
    "Switched",
    "TakenBack",
    "Throttled",
    "Up",
    "Voice",
    "plain",
]
