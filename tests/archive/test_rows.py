"""The rows of an answer: read without trust, normalised, and equal to astroquery's table."""

import contextlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astroquery.mast.discovery_portal import _json_to_table
from hypothesis import example, given
from hypothesis import strategies as st

from psfharvest.archive.catalog.rows import Rows, Unreadable, parse, rows_of
from psfharvest.core.catalog.columns import COLUMNS
from psfharvest.core.catalog.detectors import DETECTORS

DATA = Path(__file__).parents[1] / "data"
RECORDED = ["mashup_tic.json", "mashup_hsc.json", "mashup_count.json"]
KINDS = {
    "string": "str", "char": "str", "date": "str", "datetime": "str", "float": "float", "double": "float",
    "decimal": "float", "int": "int", "short": "int", "long": "int", "number": "int", "boolean": "bool",
    "binary": "bool",
}  # fmt: skip


def answer(data: Any, fields: Any, **more: Any) -> bytes:
    """Give an answer's bytes."""
    return json.dumps({"status": "COMPLETE", "data": data, "fields": fields} | more).encode()


def read(data: Any, fields: Any) -> Rows:
    """Give the rows of an answer."""
    return rows_of(parse(answer(data, fields)))


def assert_same_table(theirs, ours) -> None:
    """Compare names, types, masks and values, column by column."""
    assert theirs.colnames == ours.colnames
    assert len(theirs) == len(ours)
    for name in theirs.colnames:
        one, other = theirs[name], ours[name]

        assert (name, one.dtype) == (name, other.dtype)
        assert (name, one.mask.tolist()) == (name, other.mask.tolist())
        np.testing.assert_array_equal(one.data.data, other.data.data)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_answers_give_astroquerys_table(name):
    """Each recorded answer becomes the table that astroquery makes of it: values, types and masks."""
    body = (DATA / name).read_bytes()
    theirs = _json_to_table(json.loads(body))
    ours = rows_of(parse(body)).table()

    assert_same_table(theirs, ours)


CELLS = {
    "str": st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8)
    | st.integers(-9, 9) | st.floats(-9, 9) | st.booleans(),
    "float": st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**12), 10**12)
    | st.floats(-9, 9).map(str),
    "int": st.none() | st.integers(-(2**63), 2**63 - 1) | st.just(-999) | st.integers(-9, 9).map(str),
    "bool": st.none() | st.booleans() | st.integers(0, 1),
}  # fmt: skip


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Give data and fields that astroquery can read."""
    names = draw(st.lists(st.text("abcdefgh_", min_size=1, max_size=4), min_size=1, max_size=5, unique=True))
    types = [draw(st.sampled_from(list(KINDS))) for _ in names]
    fields = [
        {"name": name, "type": draw(st.sampled_from([t, t.upper()]))} for name, t in zip(names, types, strict=True)
    ]
    row = st.fixed_dictionaries({name: CELLS[KINDS[t]] for name, t in zip(names, types, strict=True)})
    data = draw(st.lists(row, max_size=5))
    shuffled = [dict(draw(st.permutations(list(r.items())))) for r in data]
    if draw(st.booleans()):
        fields.insert(draw(st.integers(0, len(fields))), {"name": "_selected_", "type": "boolean"})
        shuffled = [{"_selected_": None} | r for r in shuffled]
    return shuffled, fields


@given(answers())
def test_any_answer_gives_astroquerys_table(found):
    """Whatever the types and values, in any order of keys and with nulls, the table is astroquery's."""
    data, fields = found

    assert_same_table(_json_to_table(json.loads(answer(data, fields))), read(data, fields).table())


@given(answers(), st.data())
def test_rows_that_lack_a_key_hold_null_there(found, data):
    """A key left out of a row is null, whichever row it is, and the other rows keep theirs."""
    rows, fields = found
    cut = [{k: v for k, v in row.items() if data.draw(st.booleans())} for row in rows]
    nulled = [dict.fromkeys(row) | kept for row, kept in zip(rows, cut, strict=True)]

    assert read(nulled, fields).values == read(cut, fields).values


@given(answers())
def test_values_have_the_type_of_their_field(found):
    """A field's type binds every value, whatever JSON it travelled as; null stays None."""
    rows = read(*found)
    python = {"str": str, "float": float, "int": int, "bool": bool}

    assert "_selected_" not in rows.columns
    for row in rows.dicts():
        for name, kind in zip(rows.columns, rows.kinds, strict=True):
            assert row[name] is None or type(row[name]) is python[kind]


@pytest.mark.parametrize(
    ("type_", "value", "normal"),
    [("string", 599, "599"), ("string", 10000732589, "10000732589"), ("string", 1, "1"), ("string", 0.5, "0.5"),
     ("int", "7", 7), ("int", 7.0, 7), ("float", 1, 1.0), ("float", "1e-5", 1e-5), ("boolean", 1, True),
     ("unheard of", 3, "3")],
)  # fmt: skip
def test_one_value(type_, value, normal):
    """A chip is a text though it came as a number, and an id a number though it came as a text."""
    assert [(normal,)] == read([{"v": value}], [{"name": "v", "type": type_}]).values


FIELD_ID = [{"name": "id", "type": "int"}]


@pytest.mark.parametrize(
    "body",
    [b"", b"   ", b"<html>down</html>", b"null", b"3", b'"text"', b"[]", b"[1]", b"{", b'{"data": [', b"\xff\xfe",
     b"[" * 100_000, b'{"a":' * 100_000, b'{"n": ' + b"9" * 5000 + b"}", b'{"a": 1} x', b'{"foo": 1}', b"{}"],
    ids=lambda body: repr(body[:12]) + str(len(body)),
)  # fmt: skip
def test_what_is_no_answer(body):
    """What is no JSON object of an answer's form is refused, and nothing else happens."""
    with pytest.raises(Unreadable):
        rows_of(parse(body))


@pytest.mark.parametrize(
    ("data", "fields"),
    [(None, FIELD_ID), ({}, FIELD_ID), ("x", FIELD_ID), ([1], FIELD_ID), ([None], FIELD_ID), ([[1]], FIELD_ID),
     (["x"], FIELD_ID), ([], None), ([], {}), ([], [1]), ([], ["id"]), ([], [{"name": "id"}]), ([], [None]),
     ([{"id": "x"}], FIELD_ID), ([{"id": []}], FIELD_ID), ([{"id": {"a": 1}}], FIELD_ID),
     ([{"id": 2**63}], FIELD_ID), ([{"id": 10**40}], FIELD_ID), ([{"id": float("nan")}], FIELD_ID),
     ([{"id": float("inf")}], FIELD_ID),
     ([{"v": "x"}], [{"name": "v", "type": "float"}])],
    ids=str,
)  # fmt: skip
def test_data_and_fields_that_do_not_fit(data, fields):
    """Data of the wrong form or type is refused as unreadable, never passed on and never another error."""
    with pytest.raises(Unreadable):
        read(data, fields)


WORDS = st.sampled_from(["id", "name", "type", "data", "fields", "status", "paging", "a"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries({}, optional={"data": JSON, "fields": JSON | st.just(FIELD_ID), "status": JSON}) | JSON
)
@example({"data": [{"id": {"x": 1}}, {"id": 1}], "fields": FIELD_ID})
@example({"data": [{}], "fields": FIELD_ID})
def test_any_json_is_read_or_refused(found):
    """Any JSON at all gives rows that make a table, or Unreadable."""
    try:
        rows = rows_of(parse(json.dumps(found).encode()))
    except Unreadable:
        return

    assert len(rows) == len(rows.table()) or not rows.columns
    assert all(len(row) == len(rows.columns) for row in rows.values)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body):
    """Any bytes at all are parsed to a dict or refused."""
    with contextlib.suppress(Unreadable):
        assert isinstance(parse(body), dict)


def test_ten_thousand_columns():
    """A table as wide as ten thousand columns is read in reasonable work, in its order."""
    names = [f"c{n}" for n in range(10_000)]
    rows = read([dict.fromkeys(reversed(names), 1.5)] * 3, [{"name": n, "type": "float"} for n in names])

    assert tuple(names) == rows.columns
    assert [(1.5,) * 10_000] * 3 == rows.values


def test_an_answer_stays_small():
    """Fifty thousand rows of ten columns take a fraction of what they would as dicts."""
    names = [f"column{n}" for n in range(10)]
    body = answer(
        [dict.fromkeys(names, k + 0.5) for k in range(20_000)], [{"name": n, "type": "float"} for n in names]
    )

    def peak(reader: Any) -> int:
        tracemalloc.start()
        try:
            reader(body)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(parse) < 0.85 * peak(json.loads)


ROWS = Rows(("id", "qfit"), ("int", "float"), [(3, 0.5), (1, None), (3, 0.5), (2, 0.0)])


@given(st.lists(st.tuples(st.integers(0, 9), st.none() | st.floats(allow_nan=False))))
def test_distinct_by_id(values):
    """Rows come out in ascending order of id, each id once, with a row that had it."""
    rows = Rows(("id", "qfit"), ("int", "float"), values).distinct_by_id()

    assert sorted({id_ for id_, _ in values}) == [id_ for id_, _ in rows.values]
    assert set(rows.values) <= set(values)


@pytest.mark.parametrize("id_", [None, "x", float("nan"), float("inf"), ()])
def test_rows_without_an_id_are_unreadable(id_):
    """A row whose id is no number cannot be accounted for."""
    with pytest.raises(Unreadable, match="without an id"):
        Rows(("id",), ("int",), [(1,), (id_,)]).distinct_by_id()
    with pytest.raises(Unreadable, match="'id'"):
        Rows(("qfit",), ("float",), [(1.0,)]).distinct_by_id()


def test_only_takes_columns_in_the_order_asked():
    """Columns come out as asked; one that the archive left out is told."""
    assert Rows(("qfit", "id"), ("float", "int"), [(0.5, 3), (None, 1), (0.5, 3), (0.0, 2)]) == ROWS.only(
        ["qfit", "id"]
    )
    with pytest.raises(Unreadable, match="left out a column"):
        ROWS.only(["sky"])


def test_dicts():
    """Each row is a dict from column to value."""
    assert [{"id": 3, "qfit": 0.5}, {"id": 1, "qfit": None}] == list(ROWS.dicts())[:2]


@pytest.mark.parametrize("place", DETECTORS.values(), ids=lambda d: d.name)
def test_no_rows_still_have_columns(place):
    """An empty answer is a table with the known columns, or those asked for, of the right types."""
    table = Rows.none(None, place).table()

    assert [c.name for c in COLUMNS.values() if place.name in c.only] == table.colnames
    assert ("i", "f", "U") == tuple(table[name].dtype.kind for name in ("id", "qfit", "rootname"))
    assert ["qfit", "unheard_of"] == Rows.none(["qfit", "unheard_of"], place).table().colnames


def test_known_columns_have_units_and_descriptions():
    """Known columns carry what is known of them; others are left bare."""
    table = read(
        [{"exptime": 40.0, "x": 1}], [{"name": "exptime", "type": "float"}, {"name": "x", "type": "int"}]
    ).table()

    assert ("s", "exposure time") == (str(table["exptime"].unit), table["exptime"].description)
    assert None is table["x"].unit
