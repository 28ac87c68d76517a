"""The part of an archive's rate limiter that metrics read."""

from __future__ import annotations

from typing import Protocol


class Limiter(Protocol):
    """What is observed of an archive's rate limiter."""

    in_flight: int

    @property
    def connections(self) -> int:
        """Connections that may be in use now."""
        ...

    @property
    def is_down(self) -> bool:
        """True while the archive is considered down."""
        ...

    @property
    def is_closed(self) -> bool:
        """True once it serves nobody any more."""
        ...
