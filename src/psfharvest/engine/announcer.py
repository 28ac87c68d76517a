"""Events of what all users of a host's limiter share: its ceiling, its pauses, its outages."""

from __future__ import annotations

from psfharvest.core.policy.health import CircuitBreaker
from psfharvest.core.policy.throttle import Throttle
from psfharvest.events.hub import Hub
from psfharvest.events.model import Down, Paused, Resumed, Throttled, Up

CALM, SLOW = "answers come in time", "answers have become slow"


class Announcer:
    """Compares the limiter's state with what was last announced, and emits what has changed."""

    def __init__(self, hub: Hub, throttle: Throttle, health: CircuitBreaker) -> None:
        self.why = ""
        """The last trouble, in words."""
        self._hub = hub
        self._throttle = throttle
        self._health = health
        self._limit = throttle.limit
        self._paused_at: float | None = None
        self._down_at: float | None = None

    def update(self, now: float, paused_until: float, patience_s: float) -> None:
        """Announce changes; times are those of the limiter's clock, patience is that of its most patient user."""
        self._see_limit()
        if (self._health.is_down, now < paused_until) != (self._down_at is not None, self._paused_at is not None):
            self._see_outage(now, patience_s)
            self._see_pause(now, paused_until)

    def _see_limit(self) -> None:
        before, after = self._limit, self._throttle.limit
        if before == after:
            return
        self._limit = after
        why = CALM if after > before else self.why or SLOW
        self.why = ""
        self._hub.emit(Throttled, before=before, after=after, why=why)

    def _see_pause(self, now: float, paused_until: float) -> None:
        if now < paused_until:
            if self._paused_at is None:
                self._paused_at = now
                until = self._hub.now() + paused_until - now
                self._hub.emit(Paused, until=until, why=self._health.words)
        elif self._paused_at is not None:
            began_at, self._paused_at = self._paused_at, None
            self._hub.emit(Resumed, after_s=now - began_at)

    def _see_outage(self, now: float, patience_s: float) -> None:
        health = self._health
        if health.down_since is not None:
            if self._down_at is None:
                self._down_at = health.down_since
                at = self._hub.now() - now  # what turns the limiter's times into those of the wall clock
                gives_up_at = now if health.is_banned else health.down_since + patience_s
                self._hub.emit(
                    Down,
                    why=health.words,
                    since=at + health.down_since,
                    until=at + health.probe_at,
                    gives_up_at=at + gives_up_at,
                )
        elif self._down_at is not None:
            began_at, self._down_at = self._down_at, None
            self._hub.emit(Up, after_s=now - began_at)
