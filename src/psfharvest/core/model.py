"""
The values that flow through a harvest, frozen: item, answer, outcome, report, and the settings.

Values made once per cutout are NamedTuples: building a frozen dataclass costs three times as much, and ten
million of them are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from psfharvest.core import account, ranges
from psfharvest.core.exit_status import BY_STOP, ExitStatus
from psfharvest.core.fits import datauri
from psfharvest.core.fits.datauri import CutoutURI
from psfharvest.core.reasons import Reason as Reason  # noqa: PLC0414 - exported here, too: the values speak of it

PUBLIC_URL = "https://mast.stsci.edu"
PUBLIC_CEILING = 10
"""Connections to the public archive are never more than this, whatever is asked."""


class State(StrEnum):
    """Every asked cutout is in exactly one of these."""

    PENDING = "pending"
    DONE = "done"
    MISSING = "missing"
    FAILED = "failed"


class Evidence(StrEnum):
    """What an answer says about the archive itself, apart from the cutout."""

    ALIVE = "alive"
    """It answered sensibly (also with an error about this cutout)."""
    UNREACHABLE = "unreachable"
    """No connection came about."""
    ERRING = "erring"
    """A 5xx or 429."""
    NONE = "none"
    """Says nothing either way: a broken or slow transfer."""


class Failure(NamedTuple):
    """Why one request gave no cutout."""

    reason: Reason
    detail: str = ""
    retry_after_s: float | None = None
    evidence: Evidence = Evidence.NONE
    status: int = 0
    """The HTTP status, where there was an answer that had one other than 2xx."""
    fingerprint: bytes = b""
    """Digest of status and content of an answer that may be final when it comes twice; else nothing."""
    is_text: bool = False
    """True for a complete answer in plain text: words of the archive's own, unlike a web page."""
    is_final: bool = False
    """True where it has come before and is not asked for again."""
    rule: str = ""
    """Name of our check that refused what came (`psfharvest.core.fits.accepted_deviations`); else nothing."""


class WantedURI(NamedTuple):
    """A dataURI that a query or a list names."""

    uri: str
    source: int | None = None
    """Number of its catalogue row in the manifest."""
    parts: CutoutURI | None = None
    """Its parts, where they are known already."""

    @classmethod
    def reading(cls, text: str) -> WantedURI:
        """Return what a text from outside asks for, in its canonical spelling; raises `BadURI`."""
        uri, parts = datauri.read(text)
        return cls(uri, None, parts)


class BadLine(NamedTuple):
    """Something asked for that is no dataURI: accounted for, never sent."""

    text: str
    detail: str


class UriBatch(NamedTuple):
    """Some of a list's dataURIs, and how far the list has been read with them, in bytes and lines."""

    asked: list[WantedURI | BadLine]
    position: int
    lines: int


class Item(NamedTuple):
    """One dataURI to fetch."""

    number: int
    """Its row in the manifest, from 1, in the order of asking."""
    uri: str
    key: str
    """Our stable name: ``WFC3PSF/<file name>``, "/"-joined, safe on every file system."""
    size_px: int | None = None
    """The side of the image asked for; None where the URI is no cutout's: then only wholeness is checked."""
    rootname: str = ""
    source: str = ""
    """The catalogue row as JSON text, or nothing."""
    attempts: int = 0
    """Requests already charged to it in this run."""
    refusal: bytes = b""
    """Fingerprint of its last refusal, in this run or an earlier one."""


class Delivery(NamedTuple):
    """One item's answer from the fetcher: a verified body, a failure, or neither: it was not asked after all."""

    item: Item
    body: bytes | None
    sha256: bytes = b""
    failure: Failure | None = None
    is_lost: bool = False
    """The request was lost to an outage: it says nothing of the item and is not charged to it."""
    n_repeated: int = 0
    """How often the wire had to send the request once more, since a kept connection had died: no attempts."""
    quirk: str = ""
    """Name of a deviation from the expected form that was accepted."""


class Outcome(NamedTuple):
    """What became of an item, to be stored and recorded."""

    item: Item
    state: State
    attempts: int
    body: bytes | None = None
    sha256: bytes = b""
    reason: Reason | None = None
    detail: str = ""
    quirk: str = ""
    """Name of a deviation from the expected form that was accepted."""


_LIMITS = {
    "max_connections": ranges.CONNECTIONS,
    "max_per_second": ranges.PER_SECOND,
    "connect_timeout_s": ranges.TIMEOUT_S,
    "timeout_s": ranges.TIMEOUT_S,
    "total_timeout_s": ranges.TIMEOUT_S,
    "max_body_bytes": ranges.BODY_BYTES,
    "page_rows": ranges.PAGE_ROWS,
}
_OPTIONAL_LIMITS = frozenset({"max_connections", "max_per_second", "timeout_s"})


@dataclass(frozen=True, slots=True)
class Limits:
    """
    How hard to work, at most; every number is finite.

    Parameters
    ----------
    max_connections
        Every connection to the host, queries included. None: 6 on the public archive, 32 elsewhere; the public
        archive never gets more than 10.
    max_per_second
        Requests started per second; None is no limit of ours.
    connect_timeout_s
        Until a connection stands.
    timeout_s
        Without a byte: None means 30 s for a cutout and 60 s for a query or bundle; a number holds for all.
    total_timeout_s
        For one whole single cutout.
    max_body_bytes
        The largest body accepted for one cutout.
    page_rows
        What one answer to a query is trusted to hold.
    """

    max_connections: int | None = None
    max_per_second: float | None = None
    connect_timeout_s: float = 10.0
    timeout_s: float | None = None
    total_timeout_s: float = 300.0
    max_body_bytes: int = 64 * 2**20
    page_rows: int = 50_000

    def __post_init__(self) -> None:
        for name, allowed in _LIMITS.items():
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL_LIMITS:
                allowed.check(name, value)

    def connections(self, *, is_public: bool) -> int:
        """Return the ceiling of connections to the host."""
        if self.max_connections is None:
            return 6 if is_public else 32
        return min(self.max_connections, PUBLIC_CEILING) if is_public else self.max_connections


CONNECT_TRIES = 3
"""Of what asks once, where nothing else was given."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    How long to go on trying.

    Parameters
    ----------
    attempts
        Requests for one cutout, the first included.
    first_delay_s, max_delay_s
        Back-off before the second attempt and at most, before jitter.
    patience_s
        How long an outage may last before the run stops with work pending; finite, since every wait has an end.
    connect_tries
        How many requests may find no connection (unknown host, refused, untrusted), before any ever did, until
        what asks once (a count, a query, a fetch) ends; None: as many as there is patience for.
    """

    attempts: int = 5
    first_delay_s: float = 0.5
    max_delay_s: float = 60.0
    patience_s: float = 3600.0
    connect_tries: int | None = None

    def __post_init__(self) -> None:
        ranges.ATTEMPTS.check("attempts", self.attempts)
        ranges.DELAY_S.check("first_delay_s", self.first_delay_s)
        ranges.DELAY_S.check("max_delay_s", self.max_delay_s)
        ranges.PATIENCE_S.check("patience_s", self.patience_s)
        if self.connect_tries is not None:
            ranges.ATTEMPTS.check("connect_tries", self.connect_tries)


@dataclass(frozen=True, slots=True)
class Tally:
    """A count of cutouts by state; ``total = done + missing + failed + pending``, always."""

    done: int = 0
    missing: int = 0
    failed: int = 0
    pending: int = 0
    bytes: int = 0
    """Size of all stored cutouts."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """How often each reason stands behind what is missing or failed."""
    quirks: Mapping[str, int] = field(default_factory=dict)
    """How many done cutouts have which accepted deviation."""

    @property
    def total(self) -> int:
        """Number of cutouts asked for."""
        return self.done + self.missing + self.failed + self.pending


@dataclass(frozen=True, slots=True)
class Progress:
    """A look at a harvest under way; what is not final is in flight, waiting for another attempt, or pending."""

    tally: Tally
    expected: int | None
    """Cutouts to come to in the end, where that is known."""
    in_flight: int
    waiting: int
    connections: int
    requests: int
    elapsed_s: float
    outage: str = ""
    """The archive's words while it is held to be down, or nothing."""
    outage_s: float = 0.0
    """How long that has lasted."""
    patience_s: float = 0.0
    """How long it may last before the run stops."""
    arrived: int = 0
    """Cutouts that came in bundles whose ends are not verified yet: pending until then."""


@dataclass(frozen=True, slots=True)
class Report:
    """
    The account of a harvest.

    `requests` and `elapsed_s` are this run's; in `status`, all runs'. `retried` counts transient trouble that was
    met, by reason. `stopped` says why work is pending: ``archive_down``, ``all_refused`` (by one check of ours),
    ``max_bytes``, ``interrupted``, ``terminated``, ``local_error``, ``error (TypeError)`` with the type of an
    unexpected error, or nothing. `notes` are sentences for people.
    """

    total: int
    done: int
    missing: int
    failed: int
    pending: int
    bytes: int
    elapsed_s: float
    requests: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    retried: Mapping[str, int] = field(default_factory=dict)
    stopped: str = ""
    is_fully_asked: bool = True
    """False while parts of the query (or lines of the list) have not been asked for yet."""
    lacking: int = 0
    """Sources that the archive counts but does not give: they are in no state, since nobody can name them."""
    via: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    quirks: Mapping[str, int] = field(default_factory=dict)
    """How many done cutouts have which accepted deviation."""

    def __post_init__(self) -> None:
        parts = self.done + self.missing + self.failed + self.pending
        if self.total != parts:
            raise ValueError(f"the account does not add up: total {self.total}, states {parts}")

    @classmethod
    def of(cls, tally: Tally, **rest: Any) -> Report:
        """Return the report of a tally; the rest is what a tally does not hold."""
        return cls(
            total=tally.total,
            done=tally.done,
            missing=tally.missing,
            failed=tally.failed,
            pending=tally.pending,
            bytes=tally.bytes,
            reasons=tally.reasons,
            quirks=tally.quirks,
            **rest,
        )

    @property
    def exit_status(self) -> int:
        """The exit status that the command line gives for this account."""
        if self.stopped in BY_STOP:
            return BY_STOP[self.stopped]
        if self.stopped or self.pending or not self.is_fully_asked:
            return ExitStatus.PENDING
        return ExitStatus.INCOMPLETE if self.missing or self.failed or self.lacking else ExitStatus.DONE

    def __str__(self) -> str:
        """Return the account in words, as the command line shows it."""
        return account.text(self)

    def _repr_html_(self) -> str:
        """Return the account for notebooks."""
        return account.html(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the account as plain values for JSON."""
        plain = asdict(self)
        plain["elapsed_s"] = round(self.elapsed_s, 3)
        plain["notes"] = list(self.notes)
        return plain
