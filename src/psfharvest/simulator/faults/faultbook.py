"""
Which fault befalls which request: the memory that faults themselves, being values, do not have.

Rule: the first fault in the list that chooses a request befalls it; requests are numbered from 1, by
service, since the book was opened; nothing here is left to chance.
"""

import threading
import zlib
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psfharvest.simulator.faults.faults import Fault

_MAX_KEYS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Case:
    """One request, as faults see it."""

    service: str
    text: str
    """Path and query, and the body, unquoted: what ``match`` looks into."""
    uris: tuple[str, ...]
    """The URIs it asks for; of a query, its request text."""


class FaultBook:
    """
    Chooses faults.

    Parameters
    ----------
    faults
        In order of precedence.
    """

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        self.faults = tuple(faults)
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()
        self._suffered: Counter[tuple[int, str]] = Counter()
        self._order: deque[tuple[int, str]] = deque()
        self._outage_ends_s: dict[int, float] = {}

    def choose(self, case: Case, now_s: float) -> Fault | None:
        """Count a request, and give the fault that befalls it, if any."""
        if not self.faults:
            return None
        with self._lock:
            self._seen["any"] += 1
            self._seen[case.service] += 1
            for index, fault in enumerate(self.faults):
                if self._befalls(index, fault, case, now_s):
                    return fault
        return None

    def members(self, fault: Fault, uris: Sequence[str]) -> frozenset[str]:
        """Choose which of a bundle's URIs a member fault hits."""
        index = self.faults.index(fault) if fault in self.faults else -1
        is_free = fault.match is None and fault.rate is None and fault.times is None
        room = fault.members if fault.members is not None else (1 if is_free else len(uris))
        with self._lock:
            chosen = [uri for uri in uris if self._may_hit(index, fault, uri)][:room]
            self._spend(index, fault, chosen)
        return frozenset(chosen)

    def _befalls(self, index: int, fault: Fault, case: Case, now_s: float) -> bool:
        if now_s < self._outage_ends_s.get(index, now_s):
            return True
        if fault.about not in {"any", case.service} or not _numbered(fault, self._seen[fault.about]):
            return False
        if fault.picks_members:
            return any(self._may_hit(index, fault, uri) for uri in case.uris)
        keys = case.uris or (case.text,)
        if not (_matches(fault, case.text) and _drawn(fault, "\n".join(keys))):
            return False
        if not all(self._has_left(index, fault, key) for key in keys):
            return False
        self._spend(index, fault, keys)
        if fault.kind == "outage" and fault.seconds is not None:
            if index in self._outage_ends_s:
                return False  # it happens once
            self._outage_ends_s[index] = now_s + fault.seconds
        return True

    def _may_hit(self, index: int, fault: Fault, uri: str) -> bool:
        return _matches(fault, uri) and _drawn(fault, uri) and self._has_left(index, fault, uri)

    def _has_left(self, index: int, fault: Fault, key: str) -> bool:
        return fault.times is None or self._suffered[index, key] < fault.times

    def _spend(self, index: int, fault: Fault, keys: Sequence[str]) -> None:
        """Take one of each URI's ``times``; the oldest URIs are forgotten so that the book stays bounded."""
        for key in keys if fault.times is not None else ():
            slot = (index, key)
            if slot not in self._suffered:
                self._order.append(slot)
                if len(self._order) > _MAX_KEYS:
                    del self._suffered[self._order.popleft()]
            self._suffered[slot] += 1


def _numbered(fault: Fault, number: int) -> bool:
    if fault.nth is not None and number not in fault.numbers:
        return False
    if fault.every is not None and number % fault.every:
        return False
    if fault.first is not None and number > fault.first:
        return False
    return (fault.start or 0) <= number and (fault.until is None or number <= fault.until)


def _matches(fault: Fault, text: str) -> bool:
    return fault.match is None or fault.match in text


def _drawn(fault: Fault, key: str) -> bool:
    if fault.rate is None:
        return True
    return zlib.crc32(f"{fault.seed}\n{key}".encode()) < fault.rate * 2**32
