"""The parameters of a request, each bounded and declared by its route; anything else is refused in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from psfharvest.core.errors import BadInput

QUERY_BYTES_MAX = 16_384
NUMBER_MAX = 10**15
"""Above any number of a cutout, within what SQLite takes."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """
    One parameter of a route.

    Parameters
    ----------
    read
        Makes its value from its text, or raises `BadInput`.
    default
        Where it is not given; a parameter that may be repeated is an empty tuple then.
    times
        How often it may be given; above 1 its value is a tuple.
    """

    read: Callable[[str, str], Any]
    default: Any = None
    times: int = 1


def read(request: Request, declared: Mapping[str, Parameter]) -> dict[str, Any]:
    """
    Return the value of each declared parameter.

    Raises
    ------
    BadInput
        For an unknown parameter, one that is repeated, or a value out of its bounds.
    """
    if len(request.url.query) > QUERY_BYTES_MAX:
        raise BadInput(f"the query is longer than {QUERY_BYTES_MAX:,} characters")
    given: dict[str, list[str]] = {}
    for name, text in request.query_params.multi_items():
        if name not in declared:
            allowed = ", ".join(declared) or "none"
            raise BadInput(f"unknown parameter {name[:40]!r}; this address takes: {allowed}")
        given.setdefault(name, []).append(text)
    return {name: _value(name, parameter, given.get(name, ())) for name, parameter in declared.items()}


def _value(name: str, parameter: Parameter, texts: Sequence[str]) -> Any:
    if len(texts) > parameter.times:
        raise BadInput(f"{name} is given {len(texts)} times; {parameter.times} at most")
    values = tuple(parameter.read(name, text) for text in texts)
    if parameter.times > 1:
        return values
    return values[0] if values else parameter.default


def whole(low: int, high: int) -> Callable[[str, str], int]:
    """Return a reader of whole numbers of a closed range."""

    def number(name: str, text: str) -> int:
        is_number = text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 16
        if not is_number or not low <= int(text) <= high:
            raise BadInput(f"{name}={text[:40]!r}: a whole number from {low:,} to {high:,} is allowed")
        return int(text)

    return number


def wholes(high: int, at_most: int) -> Callable[[str, str], tuple[int, ...]]:
    """Return a reader of whole numbers, 1 to `high`, separated by commas."""
    one = whole(1, high)

    def numbers(name: str, text: str) -> tuple[int, ...]:
        parts = text.split(",", at_most)
        if len(parts) > at_most:
            raise BadInput(f"{name}: {at_most} numbers at most")
        return tuple(one(name, part) for part in parts)

    return numbers


def word(*allowed: str) -> Callable[[str, str], str]:
    """Return a reader of one of a few words."""

    def chosen(name: str, text: str) -> str:
        if text not in allowed:
            raise BadInput(f"{name}={text[:40]!r}: one of {', '.join(allowed)} is allowed")
        return text

    return chosen


def text(at_most: int) -> Callable[[str, str], str]:
    """Return a reader of texts of bounded length."""

    def bounded(name: str, given: str) -> str:
        if len(given) > at_most:
            raise BadInput(f"{name} is longer than {at_most:,} characters")
        return given

    return bounded
