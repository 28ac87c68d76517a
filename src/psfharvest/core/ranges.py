"""Allowed values of settings: the ranges of numbers are one table for Python and for the command line."""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Real
from typing import Any, NamedTuple

from psfharvest.core.errors import BadInput


class NumberRange(NamedTuple):
    """A closed range of finite numbers; `str` of it says what is allowed."""

    low: float
    high: float
    unit: str = ""
    is_whole: bool = False

    def __contains__(self, value: object) -> bool:
        """Return True for a finite number within the range, whole where that is asked."""
        if isinstance(value, bool) or not isinstance(value, Real):
            return False
        number: Any = value
        return self.low <= number <= self.high and not (self.is_whole and number % 1)

    def __str__(self) -> str:
        """Return the range as words, for example ``a whole number from 1 to 65,535``."""
        kind = "a whole number" if self.is_whole else "a number"
        of = f" of {self.unit}" if self.unit else ""
        return f"{kind}{of} from {_shown(self.low)} to {_shown(self.high)}"

    def check(self, name: str, value: object) -> None:
        """
        Make sure that a setting has an allowed value.

        Raises
        ------
        BadInput
            When it has not; the message names the setting and the range.
        """
        if value not in self:
            raise BadInput(f"{name} is {value!r}: {self} is allowed")


def check_word(name: str, value: object, allowed: Collection[str]) -> None:
    """Raise `BadInput` where a setting is none of the allowed words."""
    if value not in allowed:
        raise BadInput(f"{name} {value!r}: one of {', '.join(allowed)} is allowed")


def _shown(number: float) -> str:
    return f"{number:,d}" if isinstance(number, int) or number == math.floor(number) else f"{number:.10g}"


TIMEOUT_S = NumberRange(0.001, 1_000_000, "seconds")
"""libcurl counts milliseconds in a C long, which has 32 bits on Windows."""
DELAY_S = NumberRange(0.001, 1_000_000, "seconds")
PATIENCE_S = NumberRange(0, 1_000_000_000, "seconds")
"""Finite, too: every wait has an end."""
LATENCY_S = NumberRange(0, 3600, "seconds")
PER_SECOND = NumberRange(0.0001, 1_000_000, "requests a second")
CONNECTIONS = NumberRange(1, 65_535, is_whole=True)
ATTEMPTS = NumberRange(1, 1_000_000, is_whole=True)
BODY_BYTES = NumberRange(1, 2**40, "bytes", is_whole=True)
STORED_BYTES = NumberRange(0, 2**63 - 1, "bytes", is_whole=True)
PAGE_ROWS = NumberRange(1, 10_000_000, "rows", is_whole=True)
SHARD_BYTES = NumberRange(1, 2**40, "bytes", is_whole=True)
SIDE_PX = NumberRange(1, 99_999, "pixels", is_whole=True)
"""Side of a cutout."""
AHEAD = NumberRange(1, 1_000_000, "cutouts", is_whole=True)
EVENTS = NumberRange(1, 10_000_000, "events", is_whole=True)
"""Held by an event stream for its reader."""
