"""Strategies that spoil what is real: bytes of a seed changed, moved, lost, or put in from a dictionary."""

from __future__ import annotations

from hypothesis import strategies as st

from hostile.seeds import SEEDS, WORDS

ALIGNED_TO = {"fits": 80, "tar": 512}
"""What stands at a multiple of this is a card or a header: changes that keep to it go deeper."""


@st.composite
def spoilt(draw: st.DrawFn, target: str) -> bytes:
    """Give one seed of a target after up to eight changes."""
    data = bytearray(draw(st.sampled_from(SEEDS[target]())))
    for _ in range(draw(st.integers(1, 8))):
        change = draw(st.sampled_from((put, put, put_aligned, insert, drop, repeat, flip, cut)))
        change(draw, data, target)
    return bytes(data)


def anything(target: str) -> st.SearchStrategy[bytes]:
    """Give spoilt seeds, words in a row, and any bytes."""
    words = st.lists(st.sampled_from(WORDS[target]), max_size=12).map(b"".join)
    return spoilt(target) | spoilt(target) | words | st.binary(max_size=2000)


def place(draw: st.DrawFn, data: bytearray) -> int:
    return draw(st.integers(0, len(data)))


def put(draw: st.DrawFn, data: bytearray, target: str) -> None:
    """Write a word over what stands there."""
    at, word = place(draw, data), draw(st.sampled_from(WORDS[target]))
    data[at : at + len(word)] = word


def put_aligned(draw: st.DrawFn, data: bytearray, target: str) -> None:
    """Write a word where a card, a header, or one of a header's fields begins."""
    step = ALIGNED_TO.get(target, 1)
    field = draw(st.sampled_from((0, 0, 100, 124, 136, 148, 156, 157, 257, 345))) if target == "tar" else 0
    at = draw(st.integers(0, min(len(data) // step, 40))) * step + field
    word = draw(st.sampled_from(WORDS[target]))
    data[at : at + len(word)] = word


def insert(draw: st.DrawFn, data: bytearray, target: str) -> None:
    at, word = place(draw, data), draw(st.sampled_from(WORDS[target]))
    data[at:at] = word


def drop(draw: st.DrawFn, data: bytearray, target: str) -> None:
    at = place(draw, data)
    del data[at : at + draw(st.sampled_from((1, 80, 512, 2880)))]


def repeat(draw: st.DrawFn, data: bytearray, target: str) -> None:
    at, size = place(draw, data), draw(st.sampled_from((1, 80, 512, 2880)))
    data[at:at] = data[at : at + size]


def flip(draw: st.DrawFn, data: bytearray, target: str) -> None:
    if data:
        at = draw(st.integers(0, len(data) - 1))
        data[at] ^= draw(st.integers(1, 255))


def cut(draw: st.DrawFn, data: bytearray, target: str) -> None:
    del data[place(draw, data) :]
