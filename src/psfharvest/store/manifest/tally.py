"""How many items are in which state, for which reason, with how many bytes: kept in step, never counted anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Self

from psfharvest.core.model import State, Tally

ASKED = "asked"
"""The key of the number of all cutouts asked for, beside those of the states."""
QUIRK = "quirk"
"""The key of done cutouts with an accepted deviation, counted by its name; they are counted as done, too."""


Counted = tuple[str, str]
"""A state and a reason; or one of the above, and a name."""


class Counts:
    """
    The account, while it changes.

    Parameters
    ----------
    rows
        State, reason, number, bytes: as `rows` gives them.
    """

    def __init__(self, rows: Iterable[tuple[str, str, int, int]] = ()) -> None:
        self._n: Counter[tuple[str, str]] = Counter()
        self._bytes: Counter[tuple[str, str]] = Counter()
        for state, reason, n, size_bytes in rows:
            self._n[state, reason] = n
            self._bytes[state, reason] = size_bytes

    def add(self, state: str, reason: str, n: int, size_bytes: int = 0) -> None:
        """Count `n` more, or fewer."""
        self._n[state, reason] += n
        self._bytes[state, reason] += size_bytes

    def by_kind(self) -> dict[Counted, tuple[int, int]]:
        """Return number and bytes of each kind."""
        return {kind: (n, self._bytes[kind]) for kind, n in self._n.items()}

    def copy(self) -> Self:
        """Return counts that stay as these are now."""
        return type(self)(self.rows())

    def rows(self) -> list[tuple[str, str, int, int]]:
        """Return state, reason, number and bytes of each kind."""
        return [(state, reason, n, self._bytes[state, reason]) for (state, reason), n in self._n.items()]

    def tally(self) -> Tally:
        """Return the account."""
        counts, reasons = Counter[str](), Counter[str]()
        quirks = {name: n for (state, name), n in sorted(self._n.items()) if state == QUIRK and n}
        for (state, reason), n in sorted(self._n.items()):
            counts[state] += n
            if reason and n and state != QUIRK:
                reasons[reason] += n
        settled = counts[State.DONE] + counts[State.MISSING] + counts[State.FAILED]
        return Tally(
            done=counts[State.DONE],
            missing=counts[State.MISSING],
            failed=counts[State.FAILED],
            pending=counts[ASKED] - settled,
            bytes=self._bytes[State.DONE, ""],
            reasons=dict(reasons),
            quirks=quirks,
        )
