"""One bundle that was asked for: what has arrived of it, and what becomes of the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio

from psfharvest.archive.endpoints import without
from psfharvest.archive.fetch.arrivals import Arrivals
from psfharvest.archive.wires.base import Headers
from psfharvest.core import bundle_page
from psfharvest.core.model import Delivery, Evidence, Failure, Item, Reason
from psfharvest.core.policy.route import Trial

MAX_PAGE_BYTES = 2**20
"""What is read of the archive's own manifest page, at most."""


@dataclass(slots=True)
class PendingBundle:
    """One request: what it asked for, by file name, what has arrived, and what is still to come."""

    items: list[Item]
    absent: dict[str, Item]
    arrived: Arrivals
    started_at: float
    trial: Trial | None = None
    """It measures whether bundles are faster than single files, and may be abandoned."""
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    is_ended: bool = False
    """Its connection is free again; what it brought may still have to be handed on."""
    is_tls: bool = False
    """Each byte was checked by TLS: what arrived whole has as much evidence as a file of its own would have."""
    is_proven: bool = False
    """Its own end was verified, so that what arrived may be claimed."""
    notes: dict[str, str] = field(default_factory=dict)
    page: bytes = b""
    """The archive's own manifest page, read only where something is absent."""
    subject: object = field(default_factory=object)
    """What it is to the judgement whether the archive is down: one thing, however many cutouts it holds."""

    def wants(self, name: str) -> bool:
        """Return whether a member, by its name in the tar, is the page or a cutout that is still to come."""
        return base(name) in self.absent or is_page(name)

    def end(self, failure: Failure | None, secrets: Headers, *, is_declined: bool, is_lost: bool) -> None:
        """Settle what did not come; where the archive declined to make the bundle, it is to be asked for anew."""
        said = _statuses(self.page) if self.absent else {}
        for item in self.absent.values():
            words = self.notes.get(item.uri) or without(secrets, said.get(item.uri, ""))
            why = failure or Failure(Reason.NOT_IN_BUNDLE, words, evidence=Evidence.ALIVE)
            failed = Delivery(item, None, failure=why, is_lost=is_lost)
            self.arrived.add(Delivery(item, None) if is_declined else failed)
        self.absent.clear()

    def give_back(self) -> None:
        """Let the items of a bundle that was abandoned be asked for again; what came over TLS is kept."""
        self.is_proven = self.is_tls
        items = list(self.absent.values())
        if not self.is_proven:
            items += [delivery.item for delivery in self.arrived.clear()]
        self.absent.clear()
        for item in items:
            self.arrived.add(Delivery(item, None))

    def revoke(self, why: Failure) -> None:
        """Let nothing count that has arrived: each cutout is asked for again, and charged one attempt."""
        for delivery in self.arrived.clear():
            self.arrived.add(Delivery(delivery.item, None, failure=why))


def base(name: str) -> str:
    """Return the file name within a member's name."""
    return name.rpartition("/")[2]


def is_page(name: str) -> bool:
    """Return whether a member is the archive's own manifest page."""
    return name.count("/") == 1 and base(name).upper() == bundle_page.NAME


def _statuses(page: bytes) -> dict[str, str]:
    """Return what a manifest page says of each dataURI whose file did not come."""
    text = page[:MAX_PAGE_BYTES].decode("utf-8", "replace")
    return {
        row.uri: f"the bundle's manifest says {row.status[:100]!r}"
        for row in bundle_page.rows([text])
        if not row.is_well
    }
