"""
Queue of cutouts whose product is suspect: they wait at the end, and one probe is seen before the rest is sent.

A product (a rootname and a suffix) is suspect after a streak of failures on an archive that lives: often the whole
exposure has no such product, and the others need not wait behind it.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from psfharvest.core.model import Item
from psfharvest.core.policy.refusals import product_of

DEFERRED_MAX = 8192
"""Cutouts that wait here, at most; further ones are sent in their turn."""
SUSPECTS_MAX = 1024


class Deferral:
    """Suspect products, and the cutouts that wait for a probe of theirs."""

    def __init__(self) -> None:
        self._suspects: OrderedDict[str, deque[Item]] = OrderedDict()
        self._probes: dict[int, str] = {}
        """Products by the number of the item that is their probe."""
        self._troubled: set[str] = set()
        """Products that met a failure since the archive last proved to live."""
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def __bool__(self) -> bool:
        """Return True while any product is suspect."""
        return bool(self._suspects)

    def failed(self, item: Item) -> None:
        """Note a failure of an item."""
        if len(self._troubled) < SUSPECTS_MAX:
            self._troubled.add(product_of(item))

    def clear(self) -> None:
        """Let the failures noted so far be: something came meanwhile, or they were an outage's."""
        self._troubled.clear()

    def suspect(self) -> None:
        """Take the products of the failures noted for suspect: the archive lives."""
        for product in self._troubled - {""}:
            if len(self._suspects) < SUSPECTS_MAX:
                self._suspects.setdefault(product, deque())
        self._troubled.clear()

    def takes(self, item: Item) -> bool:
        """Take an item whose product is suspect, to be sent later; return False for any other."""
        waiting = self._suspects.get(product_of(item))
        if waiting is None or self._n >= DEFERRED_MAX:
            return False
        waiting.append(item)
        self._n += 1
        return True

    def probes(self, room: int) -> list[Item]:
        """Return one item of each suspect product without a probe under way; call it when nothing else is left."""
        under_way = set(self._probes.values())
        probes: list[Item] = []
        for product, waiting in list(self._suspects.items()):
            if not waiting:
                if product not in under_way:
                    del self._suspects[product]
            elif product not in under_way and len(probes) < room:
                probes.append(waiting.popleft())
                self._probes[probes[-1].number] = product
                self._n -= 1
        return probes

    def seen(self, number: int) -> list[Item]:
        """Return the items that waited for this one, now that its answer has been seen."""
        product = self._probes.pop(number, None)
        if product is None:
            return []
        waiting = self._suspects.pop(product, deque())
        self._n -= len(waiting)
        return list(waiting)
