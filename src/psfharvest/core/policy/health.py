"""
Circuit breaker of one archive: closed while it serves, doubted after a streak of failures, open in an outage.

It opens on evidence about the archive, never about a cutout. Three requests in a row without a connection open it.
Failures of any other kind, on ten different subjects in a row, only cast doubt, as does one that asks for a longer
pause than we sleep: then a control request (something known to be good) decides. When it is answered, the archive
lives and the failures are their subjects' own; when it fails, too, the breaker opens. While it is open, one probe
at a time is sent, with back-off; a probe that meets an answer of the wrong kind is followed by a control request,
since what was probed may itself be bad.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from psfharvest.core.model import Evidence, Failure, Reason, RetryPolicy
from psfharvest.core.policy.retry import MAX_SLEEP_S, backoff_s
from psfharvest.core.reasons import NO_CONNECTION, OTHER_CONTENT

UNREACHABLE_IN_A_ROW = 3
SIMULTANEOUS_S = 0.2
"""Failed connection attempts within this time count as one: they were sent at the same time."""
STREAK_MIN = 10
"""Different subjects that fail in a row before a control request is sent."""
STREAK_MAX = 160
"""The same, at most: it doubles with every control request that is answered within one streak."""
NOT_OFFERED = 501
"""Status of a server that has no such service: it says nothing about the others."""


@dataclass(slots=True)
class CircuitBreaker:
    """The archive's state as its answers show it."""

    policy: RetryPolicy
    down_since: float | None = None
    """When the outage began (on the caller's clock), or None."""
    probe_at: float = 0.0
    """When the next probe is due, in an outage."""
    words: str = ""
    """The archive's last words about its trouble."""
    last_reason: Reason | None = None
    """Why the last request failed."""
    wants_control: bool = False
    """True while a control request is to be sent."""
    is_controlling: bool = False
    """True while a control request is under way."""
    is_banned: bool = False
    """True once the archive forbids everything, the control request included (403)."""
    was_reached: bool = False
    """True once any connection has come about."""
    n_outages: int = 0
    """Outages declared so far."""
    _first_trouble_at: float | None = None
    _unreachable: int = 0
    _no_connection: int = 0
    _no_connection_at: float = float("-inf")
    _streak: set[object] = field(default_factory=set)
    """Different subjects that failed since the last good answer, or since the last control request."""
    _streak_max: int = STREAK_MIN
    _probes: int = 0

    @property
    def is_down(self) -> bool:
        """True from the declaration of an outage to the first good answer."""
        return self.down_since is not None

    @property
    def is_doubted(self) -> bool:
        """True while a control request is to decide whether there is an outage."""
        return self.wants_control or self.is_controlling

    @property
    def failed_connections(self) -> int:
        """Requests that found no connection, while none has ever come about; those sent together count as one."""
        return self._no_connection

    def success(self) -> None:
        """Take account of a good answer."""
        self._close()
        self._streak_max = STREAK_MIN

    def failure(self, failure: Failure, subject: object, now: float, jitter: float) -> bool:
        """
        Take account of a failed request.

        Parameters
        ----------
        failure
            What came back.
        subject
            What was asked for, hashable: only failures of different subjects together speak against the archive.
        now, jitter
            The time, and a number in ``[0, 1)``.

        Returns
        -------
        bool
            True in an outage: this request says nothing about its subject.
        """
        self.words = failure.detail or failure.reason.value
        self.last_reason = failure.reason
        if self._first_trouble_at is None:
            self._first_trouble_at = now
        self._count(failure, subject, now)
        if self.is_down:
            self.wants_control = self.wants_control or (self._is_probes(now) and not self._unreachable)
            self._open(failure, now, jitter)
        elif self._is_outage(failure):
            self._open(failure, now, jitter)
        elif len(self._streak) >= self._streak_max or (failure.retry_after_s or 0.0) > MAX_SLEEP_S:
            self.doubt()
        return self.is_down

    def doubt(self) -> None:
        """Ask for a control request before anything else is sent."""
        self.wants_control = not self.is_controlling

    def begin_control(self) -> None:
        """Take account of a control request that is sent."""
        self.wants_control, self.is_controlling = False, True

    def end_control(self, failure: Failure | None, now: float, jitter: float) -> None:
        """
        Take account of the answer to a control request: a failure, or None when it was good.

        A failure of another kind than those in doubt, of a server that answers, is no evidence of an outage.
        """
        self.is_controlling = False
        if failure is None or not self._confirms(failure):
            self._streak_max = min(2 * self._streak_max, STREAK_MAX)
            self._close()
            return
        self.words = failure.detail or failure.reason.value
        self.is_banned = failure.reason is Reason.FORBIDDEN
        self._unreachable = self._unreachable + 1 if failure.evidence is Evidence.UNREACHABLE else 0
        if self._first_trouble_at is None:
            self._first_trouble_at = now
        self._open(failure, now, jitter)

    def drop_control(self) -> None:
        """Take account of a control request that was ended without an answer: another one is needed."""
        self.is_controlling, self.wants_control = False, True

    def skip(self, gap_s: float) -> None:
        """Leave out a time in which this process did not run."""
        if self.down_since is not None:
            self.down_since += gap_s
        if self._first_trouble_at is not None:
            self._first_trouble_at += gap_s

    def gives_up_at(self, patience_s: float, since: float) -> float:
        """Return when the patience of one who has waited since then ends; infinity when there is no outage."""
        if self.is_banned:
            return float("-inf")
        return float("inf") if self.down_since is None else max(self.down_since, since) + patience_s

    def _confirms(self, failure: Failure) -> bool:
        """Return whether a failed control request shows an outage: a server error, or the same failure."""
        if failure.status == NOT_OFFERED:
            return False
        if failure.evidence is not Evidence.ALIVE or failure.reason is self.last_reason:
            return True
        return failure.reason in OTHER_CONTENT and self.last_reason in OTHER_CONTENT

    def _close(self) -> None:
        self.was_reached = True
        self.is_banned = False
        self.down_since = self._first_trouble_at = None
        self._unreachable = self._no_connection = self._probes = 0
        self._streak.clear()

    def _count(self, failure: Failure, subject: object, now: float) -> None:
        if failure.evidence is Evidence.UNREACHABLE:
            self._unreachable += 1
            is_first = failure.reason in NO_CONNECTION and not self.was_reached
            if is_first and now - self._no_connection_at >= SIMULTANEOUS_S:
                self._no_connection += 1
                self._no_connection_at = now
        else:
            self._unreachable = 0
            self.was_reached = True
            self._no_connection = 0
        if len(self._streak) < STREAK_MAX:
            self._streak.add(subject)

    def _is_outage(self, failure: Failure) -> bool:
        asks_too_much = failure.reason is Reason.RATE_LIMITED and (failure.retry_after_s or 0.0) > MAX_SLEEP_S
        return self._unreachable >= UNREACHABLE_IN_A_ROW or asks_too_much

    def _open(self, failure: Failure, now: float, jitter: float) -> None:
        """Declare an outage, or go on with it; either puts the next probe off."""
        is_new = self.down_since is None
        if is_new:
            self.n_outages += 1
            self.down_since = now if self._first_trouble_at is None else self._first_trouble_at
            self._streak.clear()
        wait_s = failure.retry_after_s or 0.0
        if is_new or self._is_probes(now):
            self._probes = min(self._probes + 1, 30)
            wait_s = max(wait_s, backoff_s(self._probes, self.policy, jitter))
        self.probe_at = max(self.probe_at, now + min(wait_s, MAX_SLEEP_S))

    def _is_probes(self, now: float) -> bool:
        """Return whether an answer in an outage is a probe's: others were on their way when it was declared."""
        return now >= self.probe_at
