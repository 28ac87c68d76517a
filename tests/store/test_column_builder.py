"""Columns of a table gathered in parts: values, nulls and types are those of the rows, whatever the parts."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from psfharvest.core.catalog.table_column import CASTS, FILLERS
from psfharvest.store.column_types import kind_of, wider
from psfharvest.store.read.column_builder import ColumnBuilder, ColumnPart, constant, part_of
from sampling import examples

KINDS = {
    "int": st.integers(-(2**62), 2**62),
    "float": st.floats(),
    "bool": st.booleans(),
    "str": st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=9),
}
PARTS = st.sampled_from([*KINDS]).flatmap(
    lambda kind: st.tuples(
        st.just(kind), st.lists(KINDS[kind] | st.none(), min_size=1, max_size=7), st.integers(0, 2)
    )
)


@settings(max_examples=examples(300), deadline=None)
@given(parts=st.lists(PARTS, max_size=6), n_more=st.integers(0, 3))
@example(parts=[("int", [1, None], 1), ("float", [0.5], 0), ("int", [3], 0)], n_more=2)
@example(parts=[("str", [None, None], 0), ("int", [7], 0)], n_more=0)
@example(parts=[("int", [7], 0), ("str", ["a", "", None], 0)], n_more=1)
def test_a_column_is_its_parts(parts: list[tuple[str, list[Any], int]], n_more: int) -> None:
    """Parts of different types become one of the type that holds all; rows that no part has are null."""
    rows: list[Any] = []
    n_all = sum(n_before + len(values) for _, values, n_before in parts) + n_more
    builder = ColumnBuilder(n_all + 5)
    for kind, values, n_before in parts:
        rows += [None] * n_before
        builder.put(len(rows), part_of(values, kind))
        rows += values
    rows += [None] * n_more
    kind = functools.reduce(wider, sorted({kind_of(v) for v in rows if v is not None}), "bool")
    if all(v is None for v in rows):
        kind = "str"

    found = builder.column("any", kind, len(rows))

    assert len(found) == len(rows)
    for value, row in zip(found, rows, strict=True):
        if kind == "float":
            assert repr(float(value)) == repr(math.nan if row is None else float(row))
        elif row is None:
            assert value is np.ma.masked
        else:
            assert value == CASTS[kind](row)
    if kind != "float":
        assert [found.data.data[at] for at, row in enumerate(rows) if row is None] == [
            FILLERS[kind] for row in rows if row is None
        ]


def test_texts_as_codes_are_texts() -> None:
    """Codes and words, nulls among them, and a text that all rows of a part have."""
    builder = ColumnBuilder(5)
    codes = np.array([2, 0, 1], np.int64)
    builder.put(0, ColumnPart(codes, codes == 0, np.array(["", "F606W", "F275W-and-more"])))
    builder.put(3, constant("F8", 2))

    found = builder.column("filter", "str", 5)

    assert found.tolist() == ["F275W-and-more", None, "F606W", "F8", "F8"]
