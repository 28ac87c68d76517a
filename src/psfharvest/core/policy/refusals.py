"""
Memory of refusals: which answers are final because they have come before.

The same answer (status and content) twice for one cutout is final. The same text for many cutouts of one product
(a rootname and a suffix) is the archive's form of "there is none": further cutouts that meet it are settled by
one request. That a product does not exist is concluded only from a text that says something, and only of a product
that has given no cutout: a status phrase, a web page, or an answer that concerns who asks (401, 403, 429) settles a
cutout as failed, which another run asks again. A cutout that comes later refutes what was concluded of its product.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from psfharvest.core.model import Failure, Item, Outcome, Reason, State
from psfharvest.core.reasons import ACCESS

LEARNT_AFTER = 20
"""Different cutouts of one product that met the same text."""
PRODUCTS_MAX = 10_000
"""Products remembered; the one not met for longest is forgotten first."""

VERDICTS_MAX = 100_000
"""Verdicts of a run that can still be refuted; the oldest products are forgotten first."""

_STATUS = re.compile(r"HTTP \d{3}(?:: )?")
_PHRASES = frozenset(status.phrase.casefold() for status in HTTPStatus) | {
    "internal error",
    "server error",
    "error",
}


@dataclass(slots=True)
class Refusals:
    """What was refused so far, and which products exist, in one run."""

    _met: OrderedDict[tuple[str, bytes], set[int]] = field(default_factory=OrderedDict)
    """By product and answer: the numbers of the cutouts that met it, up to `LEARNT_AFTER`."""
    _given: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Products that have given a cutout, the latest last."""

    def given(self, item: Item) -> None:
        """Take account of a cutout that came."""
        product = product_of(item)
        if product:
            self._given[product] = None
            self._given.move_to_end(product)
            _trim(self._given)

    def refused(self, item: Item, failure: Failure) -> Failure:
        """Return a refusal as it is to be judged: final where it has come before, `no_product` where it says so."""
        if not failure.fingerprint:
            return failure
        is_learnt = self._learn(item, failure)
        if is_learnt and may_mean_absent(failure) and product_of(item) not in self._given:
            return failure._replace(reason=Reason.NO_PRODUCT, is_final=True)
        return failure._replace(is_final=is_learnt or item.refusal == failure.fingerprint)

    def standing(self, outcomes: list[Outcome]) -> tuple[list[Outcome], list[Item]]:
        """Return outcomes, and the items whose verdict `no_product` their product has refuted since by a cutout."""
        refuted = [o for o in outcomes if o.reason is Reason.NO_PRODUCT and product_of(o.item) in self._given]
        if not refuted:
            return outcomes, []
        numbers = {o.item.number for o in refuted}
        standing = [o for o in outcomes if o.item.number not in numbers]
        return standing, [o.item._replace(attempts=o.attempts) for o in refuted]

    def forget(self) -> None:
        """Forget what was refused: it was an outage's answer."""
        self._met.clear()

    def _learn(self, item: Item, failure: Failure) -> bool:
        """Return True when so many cutouts of the product met this answer that it is known for what it is."""
        key = product_of(item), failure.fingerprint
        if not key[0]:
            return False
        met = self._met.setdefault(key, set())
        self._met.move_to_end(key)
        _trim(self._met)
        if len(met) < LEARNT_AFTER and not item.refusal:  # one that was refused before has been counted
            met.add(item.number)
        return len(met) >= LEARNT_AFTER


class NoProductVerdicts:
    """Verdicts `no_product` that a run has recorded, by product, until a cutout of the product comes."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[str, list[int]] = OrderedDict()
        self._n = 0

    def recorded(self, outcomes: Iterable[Outcome]) -> list[int]:
        """Take note of outcomes that are recorded; return the numbers of items whose verdicts are refuted now."""
        outcomes = tuple(outcomes)
        for outcome in outcomes:
            if outcome.reason is Reason.NO_PRODUCT:
                self._numbers.setdefault(product_of(outcome.item), []).append(outcome.item.number)
                self._n += 1
        while self._n > VERDICTS_MAX:
            self._n -= len(self._numbers.popitem(last=False)[1])
        if not self._numbers:
            return []
        came = {product_of(outcome.item) for outcome in outcomes if outcome.state is State.DONE}
        refuted = [number for product in came for number in self._numbers.pop(product, ())]
        self._n -= len(refuted)
        return refuted


def product_of(item: Item) -> str:
    """Return the product that a cutout is cut from, as ``rootname_suffix``; nothing for any other file."""
    if not item.rootname:
        return ""
    return f"{item.rootname}_{item.key.rsplit('_', 2)[-2]}" if item.key.count("_") > 1 else item.rootname


def may_mean_absent(failure: Failure) -> bool:
    """
    Return True for a text that can mean that there is no such product.

    It is in words of the archive's own, not a status's phrase, and does not concern who asks.
    """
    if failure.reason in ACCESS:
        return False
    words = _STATUS.sub("", failure.detail, count=1).strip(" .").casefold()
    return failure.is_text and bool(words) and words not in _PHRASES


def _trim(memory: OrderedDict[Any, Any]) -> None:
    while len(memory) > PRODUCTS_MAX:
        memory.popitem(last=False)
