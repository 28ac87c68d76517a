"""
Is the archive down? Decided on evidence about the archive, not about a cutout.

An outage is declared when the last three requests found no connection; or all requests for the last ten different
cutouts, however often each was asked for, met 5xx or 429; or there has been nothing but 5xx since the run began;
or the archive asked for a longer pause than we sleep. Then one probe at a time is sent, ever more rarely, until one
answers.

A cutout that met 5xx while the archive went on serving others is known to be bad: what it meets later is its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from psfharvest.core.model import Evidence, Failure, Reason, RetryPolicy
from psfharvest.core.policy.retry import MAX_SLEEP_S, backoff_s

UNREACHABLE_IN_A_ROW = 3
ERRING_IN_A_ROW = 10
KNOWN_BAD_MAX = 10_000


@dataclass(slots=True)
class Health:
    """The archive's state as the answers show it."""

    policy: RetryPolicy
    down_since: float | None = None
    """When the outage began (on the caller's clock), or None."""
    probe_at: float = 0.0
    """When the next probe is due, in an outage."""
    words: str = ""
    """What the archive last said of its trouble."""
    _only_errors: bool = True
    _first_trouble_at: float | None = None
    _unreachable: int = 0
    _erring: set[object] = field(default_factory=set)
    """What met errors of the archive's since its last sensible answer."""
    _broken: set[object] = field(default_factory=set)
    """Those of them that met 5xx."""
    _known_bad: dict[object, None] = field(default_factory=dict)
    """What met 5xx before a sensible answer, the latest last."""
    _probes: int = 0

    @property
    def is_down(self) -> bool:
        """True from the declaration of an outage to the first sensible answer."""
        return self.down_since is not None

    def alive(self) -> None:
        """Take account of an answer that shows the archive at work."""
        self._only_errors = False
        self.down_since = self._first_trouble_at = None
        self._unreachable = self._probes = 0
        if self._erring:
            self._blame()

    def trouble(self, failure: Failure, subject: object, now: float, draw: float) -> bool:
        """
        Take account of a failed request.

        Parameters
        ----------
        failure
            What came back.
        subject
            What was asked for, hashable: only different subjects together speak against the archive.
        now, draw
            The time, and a number in ``[0, 1)``.

        Returns
        -------
        bool
            True when the archive is held to be down, so that this request says nothing about its subject.
        """
        if failure.evidence is Evidence.ALIVE:
            self.alive()
            return False
        if failure.evidence is Evidence.NONE and not self.is_down:
            self._only_errors = False
            self._first_trouble_at = None
            self._unreachable = 0
            self._erring.clear()
            self._broken.clear()
            return False
        if failure.reason is Reason.SERVER_ERROR and subject in self._known_bad and not self.is_down:
            self._unreachable = 0
            return False
        self.words = failure.detail or failure.reason.value
        if self._first_trouble_at is None:
            self._first_trouble_at = now
        self._count(failure, subject)
        if self.is_down or self._is_outage(failure):
            self._declare(failure, now, draw)
        return self.is_down

    def gives_up_at(self, patience_s: float, since: float) -> float:
        """Return when the patience of one who has waited since then ends; infinity when there is no outage."""
        return float("inf") if self.down_since is None else max(self.down_since, since) + patience_s

    def _count(self, failure: Failure, subject: object) -> None:
        if failure.evidence is Evidence.UNREACHABLE:
            self._unreachable += 1
        else:
            self._unreachable = 0
            self._erring.add(subject)
            if failure.reason is Reason.SERVER_ERROR:
                self._broken.add(subject)

    def _blame(self) -> None:
        for subject in self._broken:
            self._known_bad[subject] = None
        while len(self._known_bad) > KNOWN_BAD_MAX:
            del self._known_bad[next(iter(self._known_bad))]
        self._erring.clear()
        self._broken.clear()

    def _is_outage(self, failure: Failure) -> bool:
        is_general = failure.reason is Reason.RATE_LIMITED or len(self._erring) > 1
        asks_too_much = is_general and (failure.retry_after_s or 0.0) > MAX_SLEEP_S
        never_alive = self._only_errors and failure.reason is Reason.SERVER_ERROR
        return (
            self._unreachable >= UNREACHABLE_IN_A_ROW
            or len(self._erring) >= ERRING_IN_A_ROW
            or never_alive
            or asks_too_much
        )

    def _declare(self, failure: Failure, now: float, draw: float) -> None:
        wait_s = failure.retry_after_s or 0.0
        if self.down_since is None or now >= self.probe_at:  # not for those that were on their way already
            self._probes = min(self._probes + 1, 30)
            wait_s = max(wait_s, backoff_s(self._probes, self.policy, draw))
        if self.down_since is None:
            self.down_since = self._first_trouble_at
        self.probe_at = max(self.probe_at, now + min(wait_s, MAX_SLEEP_S))
