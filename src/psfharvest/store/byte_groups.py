"""Work on bodies in groups whose bytes are held in memory at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def byte_groups(things: Iterable[T], max_bytes: int, size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield the things in groups of at most `max_bytes`; one that is larger is a group of its own."""
    group: list[T] = []
    size_bytes = 0
    for thing in things:
        if group and size_bytes + size_of(thing) > max_bytes:
            yield group
            group, size_bytes = [], 0
        group.append(thing)
        size_bytes += size_of(thing)
    if group:
        yield group
