"""Wake-ups between the tasks of a pump: its loop of decisions, what feeds it, and what keeps its outcomes."""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio


@dataclass(slots=True)
class WakeUps:
    """Events between the pump's tasks; each is replaced by a new one where it is waited for."""

    woken: anyio.Event = field(default_factory=anyio.Event)
    """A turn is due."""
    room: anyio.Event = field(default_factory=anyio.Event)
    """More items can be taken from the source."""
    to_write: anyio.Event = field(default_factory=anyio.Event)
    """Outcomes are ready to be kept."""
    enough: anyio.Event = field(default_factory=anyio.Event)
    """They are enough for a batch."""
