"""
Detection of validation checks that may be wrong: one that has refused every cutout of a database so far.

A cutout that one of our checks refuses (not the archive) is held back as long as none of the same detector and
suffix has passed: no attempt is charged, and it is not failed yet. The first that passes shows that the check is
right, and those held back are judged as usual; so they are when nothing else is left to do, so that a small harvest
ends with failures. After `SUSPECT_AFTER` different ones the run stops, once the archive has answered a control
request and one of those held back was refused again. Where the headers of all of them name another exposure in one
and the same way, the archive writes names like that: the difference is accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from psfharvest.core.catalog import detectors
from psfharvest.core.fits import accepted_deviations, names
from psfharvest.core.model import Delivery, Failure, Item, Reason
from psfharvest.core.reasons import PAGE_OR_NOTHING

SUSPECT_AFTER = 20
"""So many different cutouts, all refused by one check, make it suspect."""
PRODUCTS_MIN = 5
"""They must be of so many exposures where pages or nothing come instead of files: one may have no such product."""
HELD_MAX = 4096
"""Refused cutouts held back, at most; further ones are judged as usual."""


class Scope(NamedTuple):
    """A detector and a suffix: the cutouts that a wrong check would refuse all of."""

    detector: str
    suffix: str

    def __str__(self) -> str:
        return f"{self.detector} {self.suffix}"


@dataclass(slots=True)
class _Refused:
    """What one check refused within a scope."""

    cutouts: set[int] = field(default_factory=set)
    """By number."""
    exposures: set[str] = field(default_factory=set)
    rules: set[str] = field(default_factory=set)
    example: str = ""
    """What came, in words."""


@dataclass(slots=True)
class _Suspect:
    """A check under suspicion, and how far it is examined."""

    detector: str
    suffix: str
    """Nothing where it is about all suffixes."""
    reason: Reason
    since_control: int | None = None
    """Control requests begun when the suspicion arose."""
    probe: Item | None = None
    """The item that is asked for again."""
    is_sent: bool = False
    is_confirmed: bool = False

    def covers(self, scope: Scope) -> bool:
        """Return whether something of the scope proves the check."""
        return scope.detector == self.detector and self.suffix in ("", scope.suffix)


class Suspicion:
    """
    What our checks refused so far, while none of its kind has passed.

    Parameters
    ----------
    accepted
        Names of deviations that pass; see `psfharvest.core.fits.accepted_deviations`.
    proven
        Scopes that gave a cutout before, as texts.
    """

    def __init__(self, accepted: Iterable[str] = (), proven: Iterable[str] = ()) -> None:
        self.accepted = set(accepted)
        """Grows where a way to write names turns out to be the archive's; shared with who checks bodies."""
        self.proven = set(proven)
        """Scopes that have given a cutout, as texts."""
        self._refused: dict[tuple[Scope, Reason], _Refused] = {}
        self._held: dict[int, tuple[Scope, Delivery]] = {}
        self._suspect: _Suspect | None = None
        self._again: list[Item] = []
        self._released: set[int] = set()
        """Numbers of items that are judged as usual, though nothing has proven the check."""

    def __len__(self) -> int:
        return len(self._held) + len(self._again)

    @property
    def suspect(self) -> _Suspect | None:
        """The check under suspicion, if one is: nothing but its probe is to be sent."""
        return self._suspect

    def n_wanted(self) -> int | None:
        """Return how many answers are enough to examine a check that refused all so far; None: there is none."""
        n = len(self._held)
        return SUSPECT_AFTER - n if 0 < n < SUSPECT_AFTER and not self.proven else None

    def came(self, item: Item) -> list[Delivery]:
        """Note a cutout that came; return what was held back and is now to be judged as usual."""
        scope = scope_of(item)
        if scope is None or str(scope) in self.proven:
            return []
        self.proven.add(str(scope))
        if self._suspect is not None and self._suspect.covers(scope):
            self._suspect = None
        return self._release(scope)

    def holds(self, delivery: Delivery, failure: Failure) -> bool:
        """Take a failure that may be our own; return False for one that is to be judged as usual."""
        scope = scope_of(delivery.item)
        is_ours = bool(failure.rule) and not {failure.rule, failure.reason} & self.accepted
        if not is_ours or failure.reason is Reason.NO_PRODUCT or scope is None or str(scope) in self.proven:
            return False
        self._note(scope, delivery.item, failure)
        suspect = self._suspect
        if suspect is not None and suspect.probe is not None and suspect.probe.number == delivery.item.number:
            suspect.is_confirmed = failure.reason is suspect.reason
        elif len(self._held) >= HELD_MAX or delivery.item.number in self._released:
            return False
        self._held[delivery.item.number] = scope, delivery
        if suspect is None:
            self._update(scope, failure)
        return True

    def failed(self, number: int) -> None:
        """Note that an item was judged as usual: where it was the probe, another one is needed."""
        suspect = self._suspect
        if suspect is not None and suspect.probe is not None and suspect.probe.number == number:
            suspect.probe, suspect.is_sent = None, False

    def dropped(self, number: int) -> bool:
        """Note an item that was not asked for after all; return True for the probe, which is to be sent again."""
        suspect = self._suspect
        if suspect is None or suspect.probe is None or suspect.probe.number != number:
            return False
        suspect.is_sent = False
        return True

    def begin_probe(self) -> None:
        """Choose the probe, since the archive lives; without anything left to choose the suspicion is dropped."""
        suspect = self._suspect
        if suspect is None or suspect.probe is not None:
            return
        for number, (scope, delivery) in self._held.items():
            if suspect.covers(scope) and delivery.failure and delivery.failure.reason is suspect.reason:
                del self._held[number]
                suspect.probe = delivery.item
                return
        self._suspect = None

    def probe(self) -> Item | None:
        """Return the item that is to be sent as the probe, once."""
        if self._suspect is None or self._suspect.is_sent or self._suspect.probe is None:
            return None
        self._suspect.is_sent = True
        return self._suspect.probe

    def again(self) -> list[Item]:
        """Return items to be asked for again, since what they were refused for is accepted now."""
        again, self._again = self._again, []
        return again

    def give_up(self) -> list[Delivery]:
        """Return all that is held back, to be judged as usual: nothing else is left that could prove a check."""
        held = self._release(None)
        self._released.update(delivery.item.number for delivery in held)
        return held

    def take_back(self) -> list[Item]:
        """Return the items held back: what they met were an outage's answers."""
        suspect, self._suspect = self._suspect, None
        items = [delivery.item for delivery in self._release(None)] + self.again()
        self._refused.clear()
        if suspect is not None and suspect.probe is not None and not suspect.is_sent:
            items.append(suspect.probe)
        return items

    def words(self) -> str:
        """Return what is suspected, and what can be done."""
        suspect = self._suspect
        assert suspect is not None  # noqa: S101 - asked for where there is one
        found = [r for (s, reason), r in self._refused.items() if reason is suspect.reason and suspect.covers(s)]
        n = sum(len(refused.cutouts) for refused in found)
        of = f"{suspect.detector} {suspect.suffix}".strip()
        return (
            f"the first {n} cutouts of {of} were all refused by one check of ours, {suspect.reason} "
            f"({found[0].example}), and none has passed: the check itself may be wrong, so that nothing is counted "
            "as failed. 'psfharvest doctor' shows what of this archive is not as expected: please report it. "
            f"{_advice(found, suspect.reason)}"
        )

    def notes(self) -> list[str]:
        """Return a sentence for each check that refused all that came of a detector and suffix, few as it was."""
        return [
            f"all {len(refused.cutouts)} cutouts of {scope} that came were refused by one check of ours, {reason} "
            f"({refused.example}): see 'psfharvest doctor'. {_advice([refused], reason)}"
            for (scope, reason), refused in self._refused.items()
            if str(scope) not in self.proven and reason.value in accepted_deviations.STORED
        ]

    def _note(self, scope: Scope, item: Item, failure: Failure) -> None:
        refused = self._refused.setdefault((scope, failure.reason), _Refused())
        if len(refused.cutouts) < HELD_MAX:
            refused.cutouts.add(item.number)
            refused.exposures.add(item.rootname)
            refused.rules.add(failure.rule)
        if not refused.example:
            refused.example = f"{failure.detail[:200]}, for {item.uri}"

    def _update(self, scope: Scope, failure: Failure) -> None:
        """Suspect the check where it has refused enough, of this suffix or, where none has passed, of all."""
        alike = {s: r for (s, reason), r in self._refused.items() if reason is failure.reason and s[0] == scope[0]}
        is_any_proven = any(text.partition(" ")[0] == scope.detector for text in self.proven)
        chosen = {scope: alike[scope]} if is_any_proven else alike
        exposures = set().union(*(refused.exposures for refused in chosen.values()))
        n_cutouts = sum(len(refused.cutouts) for refused in chosen.values())
        if n_cutouts < SUSPECT_AFTER or (failure.reason in PAGE_OR_NOTHING and len(exposures) < PRODUCTS_MIN):
            return
        rules = set().union(*(refused.rules for refused in chosen.values()))
        if rules == {failure.rule} and failure.rule in names.DIFFERENCES:
            self.accepted.add(failure.rule)
            self._again += [d.item for s in chosen for d in self._release(s, failure.reason)]
            return
        suffixes = {s.suffix for s in chosen}
        self._suspect = _Suspect(scope.detector, scope.suffix if len(suffixes) == 1 else "", failure.reason)

    def _release(self, scope: Scope | None, reason: Reason | None = None) -> list[Delivery]:
        chosen = [
            number
            for number, (own, delivery) in self._held.items()
            if scope in (None, own) and (reason is None or (delivery.failure and delivery.failure.reason is reason))
        ]
        return [self._held.pop(number)[1] for number in chosen]


def scope_of(item: Item) -> Scope | None:
    """Return the scope of a cutout; None for another file."""
    if item.size_px is None:
        return None
    parts = item.key.rsplit("_", 2)
    if len(parts) < 3:
        return None
    instrument, _, name = parts[0].partition("PSF/")
    return _scope(instrument, name.split("_", 2)[-1], parts[1])


@lru_cache(maxsize=4096)
def _scope(instrument: str, filter_name: str, suffix: str) -> Scope | None:
    if instrument not in detectors.OF_INSTRUMENT:
        return None
    return Scope(detectors.holder(instrument, filter_name) or instrument, suffix)


def _advice(refused: Iterable[_Refused], reason: Reason) -> str:
    rules: Iterator[str] = chain.from_iterable(one.rules for one in refused)
    chosen = sorted({rule or reason.value for rule in rules})
    if reason.value in accepted_deviations.COUNTED:
        return f'accept=["{reason}"] counts such as failed, and goes on'
    words = ", ".join(f'"{name}"' for name in chosen)
    return f"accept=[{words}] stores such cutouts as they come, where astropy reads an image from them"
