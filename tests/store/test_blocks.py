"""Catalogue rows by column: every value comes back as it was given, and a damaged block is refused."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from psfharvest.store.manifest.block import Block
from psfharvest.store.manifest.block_arrays import BlockArrays, ColumnArrays
from psfharvest.store.manifest.block_encoder import encode
from sampling import examples

FLOATS = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, -0.0, 0.1, 1e300, 5e-324, 2.0**53])
DECIMALS = st.builds(lambda n, k: n / 10**k, st.integers(-(10**9), 10**9), st.integers(0, 6))
WHOLES = st.integers(-(2**70), 2**70) | st.integers(-100, 100)
TEXTS = st.text(st.characters(), max_size=12) | st.sampled_from(["", " ", "NaN", "null", "1", "\ud800", "\x00"])
SCALARS = st.none() | st.booleans() | WHOLES | FLOATS | DECIMALS | TEXTS
EVEN_TEXTS = st.text('aé"\\,[', min_size=2, max_size=2) | st.text("ibe8,-2n", min_size=3, max_size=3)
KINDS = [FLOATS, DECIMALS, WHOLES, st.integers(0, 9), TEXTS, EVEN_TEXTS, st.booleans(), st.none(), SCALARS]
COLUMNS = [*KINDS] + [kind | st.none() for kind in KINDS] + [DECIMALS | st.integers(-9, 9)]


@st.composite
def tables(draw: st.DrawFn) -> list[list[Any]]:
    """Rows whose columns are each of one kind, some of them near another column."""
    kinds = draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=6))
    n = draw(st.integers(1, 40))
    columns = [draw(st.lists(kind, min_size=n, max_size=n)) for kind in kinds]
    if draw(st.booleans()):
        base = draw(st.lists(DECIMALS, min_size=n, max_size=n))
        columns += [base, [value + 1 for value in base], sorted(int(value) for value in base)]
    return [list(row) for row in zip(*columns, strict=True)]


def bits(value: Any) -> Any:
    """Return what differs whenever two values differ in type or in any bit; one NaN is as good as another."""
    if isinstance(value, float):
        return ("float", "nan") if math.isnan(value) else ("float", struct.pack("d", value))
    return type(value), value


def same(rows: Any, others: Any) -> bool:
    return [[bits(v) for v in row] for row in rows] == [[bits(v) for v in row] for row in others]


def far_apart_where_not_sampled() -> list[list[int]]:
    """Two columns that are near each other in every second row only: the others' difference takes 64 bits."""
    near = [[k * 7919**3 % 2**60, k * 7919**3 % 2**60 + 1] for k in range(48)]
    near[1], near[3] = [-(2**62), 2**62 - 1], [2**62 - 1, -(2**62)]
    return near


@settings(max_examples=examples(300), deadline=None)
@given(rows=tables())
@example(rows=far_apart_where_not_sampled())
@example(rows=[[2**53 + 1, 0.5, -0.0], [-(2**63), 1, 0.0], [2**63, None, 1.25]])
@example(rows=[[1, 1.0, True], [1.0, True, 1], [True, 1, 1.0]])
@example(rows=[[-(2**62), 2**62 - 1], [2**62 - 1, -(2**62)]])
@example(rows=[["ibe8", '"a"', ""], ["ibe9", "b,cd", ""], ["ibe8", '","d', None]])
@example(rows=[["éa"], ["aé"]])  # escapes of one length
@example(rows=[["abcde"], ["a"], ["b"]])  # two short ones take the room of a long one
@example(rows=[[0.1 + 0.2, 1e22], [0.3, 9007199254740993.0]])
def test_every_value_comes_back(rows: list[list[Any]]) -> None:
    """All rows at once, each row alone, and each column as an array give what was kept, type and bits."""
    blob = encode(rows, len(rows[0]))

    assert same(rows, Block(blob).rows())
    assert same(rows, [Block(blob).row(index) for index in range(len(rows))])
    assert same(rows, of_arrays([blob], len(rows[0])))


@settings(max_examples=examples(200), deadline=None)
@given(data=st.data())
@example(data=None)
def test_a_column_of_several_blocks_has_the_rows_of_each(data: st.DataObject | None) -> None:
    """Blocks of any kinds, decoded together, give the values that each gives alone, behind each other."""
    if data is None:  # steps, words, differences to another column, nulls: of two blocks, and of one only
        tables_ = [
            [[k * k, k / 4, k / 4 + 1, f"ab{k}", None] for k in range(7)],
            [[90 + 5 * k, k / 8, k / 8 + 2, f"cd{k}", None] for k in range(4)],
            [[7 - k, k / 8, 0.5, f"abc{k % 2}", "x"] for k in range(5)],
            [[k**3, k, k + 0.5, None if k else f"ab{k}", k] for k in range(6)],
        ]
    else:
        n_columns = data.draw(st.integers(1, 4))
        rows_of = st.lists(st.lists(SCALARS, min_size=n_columns, max_size=n_columns), min_size=1, max_size=12)
        plain = tables().map(lambda rows: [[*row, *[None] * n_columns][:n_columns] for row in rows])
        tables_ = data.draw(st.lists(plain | rows_of, min_size=1, max_size=5))
    blobs = [encode(rows, len(rows[0])) for rows in tables_]

    assert same([row for rows in tables_ for row in rows], of_arrays(blobs, len(tables_[0][0])))


def test_arrays_of_ascending_integers_to_the_ends_of_64_bits() -> None:
    """The steps of all blocks together may be more than 64 bits hold; they are summed modulo 2**64."""
    ascending = [[-(2**62)], *[[k] for k in range(30)], [2**62 - 1]]
    for tables_ in ([ascending] * 2, [ascending] * 4, [ascending, [[k] for k in range(40)]]):
        blobs = [encode(rows, 1) for rows in tables_]

        assert same([row for rows in tables_ for row in rows], of_arrays(blobs, 1))


def of_arrays(blobs: list[bytes], n_columns: int) -> list[tuple[Any, ...]]:
    """Return the rows of blocks as their columns' arrays give them."""
    blocks = BlockArrays([Block(blob) for blob in blobs])
    columns = [[v for part in blocks.column(index) for v in of_array(part)] for index in range(n_columns)]
    return list(zip(*columns, strict=True))


def of_array(column: ColumnArrays) -> list[Any]:
    """Return the values that arrays, nulls and words say."""
    values, nulls, wholes = column.array(), column.nulls(), column.wholes()
    nothing = np.zeros(column.n_rows, np.bool_)
    if column.is_worded:
        found = [column.words[code] for code in values.tolist()]
        assert [value is None for value in found] == (nothing if nulls is None else nulls).tolist()
        if column.kind == "text":
            assert np.array_equal(np.array([word or "" for word in found], np.str_), column.texts()[values])
        return found
    return [
        None if is_null else int(value) if is_whole else value
        for value, is_null, is_whole in zip(
            values.tolist(),
            nothing if nulls is None else nulls,
            nothing if wholes is None else wholes,
            strict=True,
        )
    ]


def test_columns_like_a_catalogues_are_small() -> None:
    """Positions in two frames, an identifier, texts of few words and a constant: what the sizes rest on."""
    rng = np.random.default_rng(5)
    x = rng.integers(10_000, 40_000_000, 1000).tolist()
    ids = np.cumsum(rng.integers(1, 200, 1000)).tolist()
    frames = [[(a + shift) / 1e4 for shift in (0, 10_000, 250_000)] for a in x]
    rows = [(i, *places, "F606W", None, 0.5) for i, places in zip(ids, frames, strict=True)]

    assert len(encode(rows, 7)) < 6 * len(rows)


@settings(max_examples=examples(200), deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_never_read_as_a_value(data: st.DataObject) -> None:
    """Whatever byte is different, the block says that it is damaged; so does one that is cut off."""
    rows = [[k, k / 7, f"w{k % 5}", None if k % 3 else 0.25] for k in range(50)]
    blob = bytearray(encode(rows, 4))
    at = data.draw(st.integers(0, len(blob) - 1))
    is_cut = data.draw(st.booleans())
    if is_cut:
        del blob[at:]
    else:
        blob[at] ^= data.draw(st.integers(1, 255))

    with pytest.raises(ValueError, match=r"block of catalogue rows"):
        Block(bytes(blob)).rows()


def test_a_column_of_another_block_is_refused() -> None:
    """A stream that is whole by itself, but not the one that the head was written for."""
    ours, others = (encode([[word] for word in words], 1) for words in (("ab", "cd"), ("ef", "gh")))
    start = 8 + struct.unpack_from("<I", ours)[0]
    assert Block(ours[:start] + ours[start:]).rows() == [("ab",), ("cd",)]

    with pytest.raises(ValueError, match="checksum"):
        Block(ours[:start] + others[8 + struct.unpack_from("<I", others)[0] :]).rows()


def test_a_row_of_another_length_is_refused() -> None:
    """A row that lacks a value is no row of the layout."""
    with pytest.raises(ValueError, match="2 values"):
        encode([[1, 2], [1]], 2)
