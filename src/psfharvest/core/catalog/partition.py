"""
Split a query on the integer ``id`` until each part fits one answer.

Parts are disjoint closed ranges, taken in ascending order: the lowest is refined first, so that its cutouts can be
on their way while the rest is still uncounted. The planner returns its questions as values and takes the answers;
an answer that holds fewer rows than were counted is never taken for the whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

LOWEST, HIGHEST = -(2**53) + 1, 2**53 - 1
"""Exact in any JSON reader; these ends themselves are hardly ever sent."""
FIRST_HIGHEST = 2**26 - 1
"""Known ids lie below 3.4e7: the first cut of a range without an upper end."""
MIN_PAGE_ROWS = 100
"""What one answer is trusted to hold falls no lower; an answer that gives even less is split all the same."""
GROW_AFTER = 32
"""Parts that must come well until a larger page is tried again; twice as many after each time that it failed."""
MAX_TRIES = 2
"""How often a part one id wide is asked for before what came is taken."""


class Part(NamedTuple):
    """A closed range of ids."""

    low: int
    high: int


WHOLE = Part(LOWEST, HIGHEST)


class Question(StrEnum):
    """What the planner wants to know of a part next."""

    COUNT = "count"
    ROWS = "rows"


class Step(NamedTuple):
    """A question; `expected` rows should come for ``rows``."""

    ask: Question
    part: Part
    expected: int = 0


@dataclass(slots=True)
class _Node:
    part: Part
    count: int | None = None
    with_next: int | None = None
    """The count of this part and the next together, where it is known."""
    tries: int = 0


@dataclass(slots=True)
class Planner:
    """
    The plan of one query, refined from the lowest ids on.

    Parameters
    ----------
    page_rows
        What one answer is trusted to hold; it falls when answers turn out to hold less, and grows again, more and
        more slowly, while all is well.
    gaps
        The ranges still to be covered, ascending: everything, less what an earlier run finished.
    """

    page_rows: int
    gaps: Iterable[Part] = (WHOLE,)
    lacking: int = 0
    """How many rows were counted, but did not come though their id alone was asked for."""
    lacking_in_a_row: int = 0
    """How many ids in a row gave less than was counted."""
    _todo: list[_Node] = field(default_factory=list)
    _most_rows: int = 0
    _grow_after: int = GROW_AFTER
    _n_delivered: int = 0

    def __post_init__(self) -> None:
        self._most_rows = self.page_rows
        self._todo = [_Node(part) for part in reversed(list(self.gaps))]

    def next_step(self) -> Step | None:
        """Return the next question, or None when all is covered."""
        while self._todo:
            node = self._todo[-1]
            if node.count is None:
                return Step(Question.COUNT, node.part)
            if node.count == 0:
                self._todo.pop()
            elif node.count <= self.page_rows or node.part.low == node.part.high:
                return Step(Question.ROWS, node.part, node.count)
            else:
                self._split(node.count)
        return None

    def counted(self, count: int) -> None:
        """Take the answer to a ``count``; a half's count tells the other half's, too."""
        node = self._todo[-1]
        node.count = count
        if node.with_next is not None and node.with_next >= count:
            self._todo[-2].count = node.with_next - count

    def received(self, n_rows: int) -> bool:
        """
        Take the number of rows that came for a ``rows``.

        Returns
        -------
        bool
            True when the part is done: it is complete, or one id wide and does not become so. False when rows are
            lacking, so that it is taken apart and asked anew.
        """
        node = self._todo[-1]
        count = node.count or 0
        if n_rows >= count:
            self._done()
            return True
        self._shrink(max(MIN_PAGE_ROWS, n_rows, self.page_rows // 2))
        if node.part.low != node.part.high:
            self._split(None)
            return False
        node.tries += 1
        if node.tries < MAX_TRIES:
            node.count = None
            return False
        self._lack(count - n_rows)
        return True

    def undelivered(self, n_rows: int = 0) -> bool:
        """
        Take note that the archive cannot deliver the part of the present ``rows``, of which `n_rows` came before.

        Returns
        -------
        bool
            True when the part is done: it is one id wide, and its rows are lacking. False when it is halved, or
            asked for once more.
        """
        node = self._todo[-1]
        count = node.count or 0
        if node.part.low == node.part.high:
            node.tries += 1
            if node.tries < MAX_TRIES:
                return False
            self._lack(max(0, count - n_rows))
            return True
        if count > MIN_PAGE_ROWS:
            self._shrink(max(MIN_PAGE_ROWS, min(self.page_rows, count) // 2))
        self._split(count)
        return False

    def _lack(self, n_rows: int) -> None:
        """Finish a part one id wide without so many of its rows."""
        in_a_row = self.lacking_in_a_row + 1
        self._done()
        self.lacking += n_rows
        self.lacking_in_a_row = in_a_row

    def _shrink(self, page_rows: int) -> None:
        if page_rows < self.page_rows:
            self.page_rows, self._n_delivered = page_rows, 0

    def _done(self) -> None:
        self._n_delivered += 1
        if self.page_rows < self._most_rows and self._n_delivered >= self._grow_after:
            self.page_rows, self._n_delivered = min(2 * self.page_rows, self._most_rows), 0
            self._grow_after *= 2
        self._todo.pop()
        self.lacking_in_a_row = 0

    def _split(self, total: int | None) -> None:
        low, high = _halves(self._todo.pop().part)
        self._todo += [_Node(high), _Node(low, with_next=total)]


def _halves(part: Part) -> tuple[Part, Part]:
    middle = (part.low + part.high) // 2
    if part.low < 0 <= part.high:
        middle = -1
    elif part.low == 0 and part.high > FIRST_HIGHEST:
        middle = FIRST_HIGHEST
    return Part(part.low, middle), Part(middle + 1, part.high)


def gaps(finished: Iterable[Part], whole: Part = WHOLE) -> list[Part]:
    """Return what of `whole` the `finished` parts do not cover, ascending."""
    found: list[Part] = []
    start = whole.low
    for low, high in sorted(finished):
        if start > whole.high:
            break
        if low > start:
            found.append(Part(start, min(low - 1, whole.high)))
        start = max(start, high + 1)
    if start <= whole.high:
        found.append(Part(start, whole.high))
    return found
