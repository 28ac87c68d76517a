"""
Encoding catalogue rows as a block, whose format `psfharvest.store.manifest.block` describes.

Of each column the first form is taken that gives every value back, and of several ways to store it the smallest.
"""

from __future__ import annotations

import json
import math
import sys
import zlib
from array import array
from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import eq, le, mul, sub, truediv
from typing import Any, NamedTuple

from psfharvest.store.manifest.block import START
from psfharvest.store.manifest.block_column import MINUS_ZERO, NULL, PLAIN, STEPS, WHOLE, Entry

_LEVEL = 6
_DECIMALS_MAX = 12
_EXACT = 2**53
"""Up to it every integer is a double, and a quotient of two is rounded once: the same in C, Python and numpy."""
_SAMPLE = 24
_GAIN = 0.6
"""A column is stored by its difference to another one where that takes less than this part of the room."""
_encode = json.JSONEncoder(separators=(",", ":")).encode


class _Wholes(NamedTuple):
    """A column as whole numbers."""

    kind: str
    numbers: list[int]
    marks: bytes = b""
    scale: int = 1
    words: bytes = b""


def encode(rows: Sequence[Sequence[Any]], n_columns: int) -> bytes:
    """
    Return rows as a blob.

    Raises
    ------
    ValueError
        When a row has not as many values as there are columns.
    TypeError
        When a value is nothing that JSON has.
    """
    if any(len(row) != n_columns for row in rows):
        raise ValueError(f"a catalogue row has not {n_columns} values")
    known: list[_Wholes] = []
    entries, streams = [], []
    for values in zip(*rows, strict=True):
        wholes = _wholes_of(values)
        entry, stream = _packed(wholes, known)
        known.append(wholes)
        entries.append(entry)
        streams.append(stream)
    head = zlib.compress(_encode([len(rows), *entries]).encode(), _LEVEL)
    return b"".join([START.pack(len(head), zlib.crc32(head)), head, *streams])


def _deflated(parts: Iterable[bytes]) -> bytes:
    """Return parts as one zlib stream; a new deflate block for each, so that noise is stored and not coded."""
    packer = zlib.compressobj(_LEVEL)
    found = [piece for part in parts if part for piece in (packer.compress(part), packer.flush(zlib.Z_BLOCK))]
    return b"".join([*found, packer.flush()])


def _wholes_of(values: Sequence[Any]) -> _Wholes:
    """Return a column as whole numbers, in the first form that gives every value back."""
    types = set(map(type, values))
    marks = b""
    if type(None) in types and len(types) > 1 and types <= {type(None), int, float}:
        marks = bytes([NULL if value is None else 0 for value in values])
        values = _filled(values)
        types.discard(type(None))
    if types == {int} and min(values) >= -(2**62) and max(values) < 2**62:  # so that no difference overflows
        return _Wholes("int", list(values), marks)
    if types == {int, float} and all(abs(value) <= _EXACT for value in values if type(value) is int):
        marks = bytes(
            [
                mark or (WHOLE if type(value) is int else 0)
                for value, mark in zip(values, marks or bytes(len(values)), strict=True)
            ]
        )
        values = [float(value) for value in values]
        types = {float}
    if types == {float}:
        decimal = _decimal(values)
        if decimal is not None:
            return _Wholes("decimal", decimal[0], _with_minus_zeros(values, decimal[0], marks), decimal[1])
        return _Wholes("float", array("q", array("d", values).tobytes()).tolist(), marks)
    if marks:
        values = [None if mark == NULL else value for value, mark in zip(values, marks, strict=True)]
    return _of_words(values, "text" if types <= {str, type(None)} and str in types else "json")


def _with_minus_zeros(values: Sequence[float], numbers: Sequence[int], marks: bytes) -> bytes:
    if 0 not in numbers:
        return marks
    found = bytearray(marks or bytes(len(values)))
    for index, value in enumerate(values):
        if value == 0 and math.copysign(1.0, value) < 0 and not found[index]:
            found[index] = MINUS_ZERO
    return bytes(found) if any(found) else b""


def _of_words(values: Sequence[Any], kind: str) -> _Wholes:
    texts = values if kind == "text" else [None if value is None else _encode(value) for value in values]
    places: dict[str | None, int] = {None: 0}
    numbers = [places.setdefault(text, len(places)) for text in texts]
    return _Wholes(kind, numbers, words=_encode(list(places)[1:]).encode())


def _filled(values: Sequence[Any]) -> list[Any]:
    """Return a column with the value before in place of each null: it takes the least room."""
    last = next(value for value in values if value is not None)
    found = []
    for value in values:
        last = last if value is None else value
        found.append(last)
    return found


def _decimal(values: Sequence[float]) -> tuple[list[int], int] | None:
    """Return floats as whole numbers of their last decimal, and its scale; None where that loses anything."""
    for decimals in range(_DECIMALS_MAX + 1):
        scale = 10**decimals
        if _scaled(values[:_SAMPLE], scale) is not None:
            numbers = _scaled(values, scale)
            if numbers is not None:
                return numbers, scale
    return None


def _scaled(values: Sequence[float], scale: int) -> list[int] | None:
    try:
        numbers = list(map(round, map(mul, values, repeat(scale))))
    except (ValueError, OverflowError):  # not a number, or infinite
        return None
    if max(numbers) > _EXACT or min(numbers) < -_EXACT:
        return None
    return numbers if all(map(eq, map(truediv, numbers, repeat(scale)), values)) else None


def _packed(wholes: _Wholes, known: Sequence[_Wholes]) -> tuple[Entry, bytes]:
    numbers, base, like = wholes.numbers, 0, PLAIN
    if wholes.kind != "float":
        like = _similar(wholes, known)
        if like >= 0:
            numbers = list(map(sub, numbers, known[like].numbers))
        elif wholes.kind == "int" and all(map(le, numbers, numbers[1:])):
            like = STEPS
            base, numbers = numbers[0], [0, *map(sub, numbers[1:], numbers)]
        if like != STEPS:
            base = min(numbers)
            numbers = [number - base for number in numbers]
        width = (max(numbers).bit_length() + 7) // 8
    else:
        width = 8
    content = [wholes.marks]
    if width:
        kind = "q" if wholes.kind == "float" else "Q"
        stored = array(kind, numbers)
        if sys.byteorder == "big":
            stored.byteswap()
        raw = stored.tobytes()
        content += [raw[place::8] for place in range(width)]
    stream = _deflated([*content, wholes.words])
    entry = Entry(
        wholes.kind, len(stream), zlib.crc32(stream), int(bool(wholes.marks)), width, base, like, wholes.scale
    )
    return entry, stream


def _similar(wholes: _Wholes, known: Sequence[_Wholes]) -> int:
    """Return the index of the column before that takes the most of this one's room away, or `PLAIN`."""
    if wholes.kind not in ("int", "decimal"):
        return PLAIN
    step = max(1, len(wholes.numbers) // _SAMPLE)
    sample = wholes.numbers[::step]
    best, best_room = PLAIN, _GAIN * _room(sample)
    for index, other in enumerate(known):
        if other.kind == wholes.kind and other.scale == wholes.scale:
            room = _room(list(map(sub, sample, other.numbers[::step])))
            if room < best_room:
                best, best_room = index, room
    return best


def _room(sample: Sequence[int]) -> int:
    """Return about how much room numbers take: the bits of their range for each different one."""
    return (max(sample) - min(sample)).bit_length() * len(set(sample))
