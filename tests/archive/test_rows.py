"""The rows of an answer: read without trust, normalised, and equal to astroquery's table."""

import contextlib
import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from psfharvest.archive.catalog.answer import LOOK_EVERY, catalogue_rows_of, count_of, parse, rows_of
from psfharvest.archive.catalog.rows import Rows, Unreadable
from psfharvest.archive.catalog.table_builder import TableBuilder
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


def table_of(*answers: Rows, columns: list[str] | None = None, is_distinct: bool = False) -> Any:
    """Give the table of some answers."""
    builder = TableBuilder()
    for rows in answers:
        builder.add(rows, is_distinct)
    return builder.table(columns)


def astroquerys_table(body: bytes) -> Any:
    """Return the table that astroquery makes of an answer."""
    from astroquery.mast.discovery_portal import _json_to_table  # seconds, which no other worker has to pay

    return _json_to_table(json.loads(body))


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
    theirs = astroquerys_table(body)
    ours = table_of(rows_of(parse(body)))

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

    assert_same_table(astroquerys_table(answer(data, fields)), table_of(read(data, fields)))


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
     (["x"], FIELD_ID), ([], 3), ([], [1]), ([], ["id"]), ([], [None]),
     ([{"id": []}], FIELD_ID), ([{"id": {"a": 1}}], FIELD_ID), ([{"v": [1]}], [{"name": "v", "type": "string"}])],
    ids=str,
)  # fmt: skip
def test_data_and_fields_that_do_not_fit(data, fields):
    """Data of the wrong form or type is refused as unreadable, never passed on and never another error."""
    with pytest.raises(Unreadable):
        read(data, fields)


@pytest.mark.parametrize(
    ("type_", "value"), [("int", "x"), ("int", 2**63), ("int", 10**40), ("int", float("inf")), ("float", "x")]
)
def test_a_value_that_does_not_fit_costs_no_row(type_, value):
    """A value that its field's type does not fit makes the column one of texts; the other columns keep theirs."""
    rows = read(
        [{"v": 1, "w": 2}, {"v": value, "w": 3}], [{"name": "v", "type": type_}, {"name": "w", "type": "int"}]
    )

    assert ("str", "int") == rows.kinds
    assert [("1", 2), (str(value), 3)] == rows.values


TYPES = {"bigint": 3, "SMALLINT": 3, "real": 0.5, "numeric(8,3)": 0.5, "nvarchar(32)": "x", "bit": True}


@pytest.mark.parametrize(("type_", "value"), TYPES.items())
def test_types_of_a_database(type_, value):
    """A field may bear the name of a type of SQL Server."""
    (got,) = read([{"v": str(value)}], [{"name": "v", "type": type_}]).values[0]

    assert (type(value), value) == (type(got), got)


def test_rows_without_fields():
    """Without fields the columns are those of the rows, with the known type or the values'."""
    data = [
        {"id": 7, "chip": 2, "odd": 1.5, "_selected_": None},
        {"id": 8, "chip": None, "odd": 2, "_selected_": None},
    ]
    rows = rows_of(parse(json.dumps({"status": "COMPLETE", "data": data}).encode()))

    assert (("id", "chip", "odd"), ("int", "str", "float")) == (rows.columns, rows.kinds)
    assert [(7, "2", 1.5), (8, None, 2.0)] == rows.values


@pytest.mark.parametrize("has_fields", [True, False])
def test_known_columns_in_another_case_bear_our_names(has_fields):
    """A database takes names in any case, and gives its own; unknown ones stay, and so do two that are one."""
    row = {"ID": 7, "Chip": 2, "ODD": 1.5, "qfit": 0.1, "QFIT": 0.2}
    fields = {"fields": [{"name": name, "type": "float"} for name in row]} if has_fields else {}
    rows = catalogue_rows_of(parse(json.dumps({"status": "COMPLETE", "data": [row], **fields}).encode()))

    assert ("id", "chip", "ODD", "qfit", "QFIT") == rows.columns
    assert 7 == rows.values[0][0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_an_answer_in_another_encoding_is_read(encoding):
    """One letter that is no UTF-8 would otherwise cost all rows of an answer, each time it is asked for."""
    words = json.dumps({"status": "COMPLETE", "data": [{"id": 7, "odd": "caf\u00e9"}]}, ensure_ascii=False)

    assert [(7, "caf\u00e9")] == rows_of(parse(words.encode(encoding))).values


def test_texts_of_known_columns_are_stripped():
    """A database pads what it calls char(n) with blanks."""
    fields = [{"name": "rootname", "type": "string"}, {"name": "odd", "type": "string"}]

    assert [("ibe802npq", "a ")] == read([{"rootname": "ibe802npq  ", "odd": "a "}], fields).values


@pytest.mark.parametrize(
    "row", [{"Column1": 30}, {"Column1": "30"}, {"Column1": 30.0}, {"Column1": "30.0"}, {"COUNT_BIG(*)": 30},
            {"Column1": 30, "_selected_": None}, {"_selected_": True, "n": 30}, {"Column1": 30, "page": 1},
            {"": 30}, {"count": "30", "words": "thirty"}],
    ids=repr,
)  # fmt: skip
def test_a_count(row):
    """A count is the one number of the one row, whatever its name and whatever stands beside it."""
    assert 30 == count_of(parse(answer([row], None)))


@pytest.mark.parametrize(
    "data", [None, [], [3], [{}], [{"Column1": None}], [{"Column1": "many"}], [{"Column1": -1}],
             [{"Column1": 2**60}], [{"Column1": True}], [{"Column1": 1}, {"Column1": 2}], [{"a": 1, "b": 2}],
             [{"Column1": 1.5}]],
    ids=str,
)  # fmt: skip
def test_what_is_no_count(data):
    """Where no number can be the count, or several, there is none."""
    with pytest.raises(Unreadable):
        count_of(parse(answer(data, None)))


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

    assert len(rows) == len(table_of(rows)) or not rows.columns
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


@pytest.mark.campaign
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


SOURCES = st.tuples(
    st.none() | st.integers(0, 9),
    st.sampled_from(["a", "b"]),
    st.sampled_from([0.5, 1.5, float("nan")]),
    st.integers(),
)


WHOLE_IDS = st.tuples(st.integers(-3, 120), st.just("a"), st.just(0.5), st.integers())
"""Sources whose ids are all whole numbers, as an archive gives them."""


@given(st.lists(SOURCES) | st.lists(WHOLE_IDS))
@example([(10, "a", 0.5, 0), (2, "a", 0.5, 0)])
def test_distinct(values):
    """Sources come out by ascending id, each once; an id shared by two exposures or two places is two sources."""
    rows = Rows(("id", "rootname", "x_cal", "sky"), ("int", "str", "float", "int"), values).distinct()
    plain = [tuple(map(str, row[:3])) for row in rows.values]

    assert len(set(plain)) == len(plain)
    assert set(plain) == {tuple(map(str, value[:3])) for value in values}
    assert sorted(plain, key=lambda key: -1 if key[0] == "None" else int(key[0])) == plain


def test_rows_without_a_column_id_are_unreadable():
    """Without the column, sources cannot be told apart; of no rows there is nothing to tell."""
    with pytest.raises(Unreadable, match="'id'"):
        Rows(("qfit",), ("float",), [(1.0,)]).distinct()

    assert 0 == len(Rows(("qfit",), ("float",), []).distinct())


@pytest.mark.parametrize(
    ("value", "id_"), [(7, 7), ("7", 7), (7.0, 7), ("7.0", 7), (None, None), ("x", None), (float("nan"), None),
                       (float("inf"), None), (7.5, None), ((), None)],
    ids=repr,
)  # fmt: skip
def test_an_id_is_a_whole_number(value, id_):
    """An id may come as a text or a float; what is no whole number is none."""
    assert [id_] == Rows(("id",), ("int",), [(value,)]).ids()


@pytest.mark.parametrize("type_", ["boolean", "float", "int", "string"])
@pytest.mark.parametrize("value", [[], ["x"], {"a": 1}], ids=repr)
def test_a_list_or_an_object_is_no_value(type_, value):
    """Whatever the type of a column, a list or an object in it makes the answer unreadable, and no truth value."""
    with pytest.raises(Unreadable, match="a list or an object where a value belongs, in 'odd'"):
        read([{"id": 1, "odd": value}], [{"name": "id", "type": "int"}, {"name": "odd", "type": type_}])


def test_rows_of_several_answers_go_together():
    """Answers with other orders of columns, or other types, make one table that keeps every value."""
    one = Rows(("id", "chip"), ("int", "int"), [(1, 2)])
    other = Rows(("chip", "id", "more"), ("str", "int", "str"), [("1", 5, "x")])

    assert Rows(("id", "chip"), ("int", "str"), [(1, 2), (5, "1")]) == one.plus(other)
    assert ["2", "1"] == list(table_of(one.plus(other))["chip"])


VALUES = {
    "int": st.integers(-(2**62), 2**62), "float": st.floats(), "str": st.sampled_from(["", "F606W", "ü", "-999"]),
    "bool": st.booleans(),
}  # fmt: skip


@st.composite
def answers(draw: st.DrawFn) -> Rows:
    """Draw an answer: some columns in some order, of some kinds, with nulls."""
    kinds = draw(st.dictionaries(st.sampled_from(["rootname", "sky", "chip", "more"]), st.sampled_from([*VALUES])))
    kinds = {"id": "int"} | kinds
    row = st.tuples(st.integers(0, 3), *(st.none() | VALUES[kind] for kind in list(kinds.values())[1:]))
    return Rows(tuple(kinds), tuple(kinds.values()), draw(st.lists(row, max_size=4)))


@given(st.lists(answers(), min_size=1, max_size=3), st.booleans())
def test_a_table_of_several_answers_is_that_of_all_their_rows_at_once(several: list[Rows], is_distinct: bool):
    """Gathered answer by answer, a table has the columns, types, masks, order and values of all rows together."""
    whole = several[0].plus(*several[1:])
    whole = whole.distinct() if is_distinct else whole
    found = table_of(*several, is_distinct=is_distinct)

    assert list(whole.columns) == found.colnames
    casts = {"int": int, "float": float, "str": str, "bool": bool}
    for place, (name, kind) in enumerate(zip(whole.columns, whole.kinds, strict=True)):
        plain = [None if row[place] is None else casts[kind](row[place]) for row in whole.values]
        fillers = {"int": -999, "float": math.nan, "str": "", "bool": False}
        expected = [fillers[kind] if value is None else value for value in plain]
        np.testing.assert_array_equal(np.array(expected, found[name].dtype), found[name].data.data)
        nulls = (
            [value is None for value in plain] if kind == "bool" else [value in ("", -999) for value in expected]
        )
        assert ([False] * len(plain) if kind == "float" else nulls) == found[name].mask.tolist()


def test_a_table_has_the_columns_asked_for():
    """Columns come out in the order asked; one that the archive left out is named."""
    assert ["qfit", "id"] == table_of(ROWS, columns=["qfit", "id"]).colnames
    with pytest.raises(Unreadable, match="left out a column: 'sky'"):
        table_of(ROWS, columns=["sky"])


def test_dicts():
    """Each row is a dict from column to value."""
    assert [{"id": 3, "qfit": 0.5}, {"id": 1, "qfit": None}] == list(ROWS.dicts())[:2]


@pytest.mark.parametrize("place", DETECTORS.values(), ids=lambda d: d.name)
def test_no_rows_still_have_columns(place):
    """An empty answer is a table with the known columns, or those asked for, of the right types."""
    table = table_of(Rows.none(None, place))

    assert [c.name for c in COLUMNS.values() if place.name in c.only] == table.colnames
    assert ("i", "f", "U") == tuple(table[name].dtype.kind for name in ("id", "qfit", "rootname"))
    assert ["qfit", "unheard_of"] == table_of(Rows.none(["qfit", "unheard_of"], place)).colnames


def test_known_columns_have_units_and_descriptions():
    """Known columns carry what is known of them; others are left bare."""
    fields = [{"name": "exptime", "type": "float"}, {"name": "x", "type": "int"}]
    table = table_of(read([{"exptime": 40.0, "x": 1}], fields))

    assert ("s", "exposure time") == (str(table["exptime"].unit), table["exptime"].description)
    assert None is table["x"].unit


def test_reading_an_answer_ends_where_it_is_told_to() -> None:
    """A long one takes a second, and an interrupt must not wait for that."""

    class Enough(Exception):
        pass

    def look() -> None:
        raise Enough

    rows = [{"id": n} for n in range(LOOK_EVERY)]
    assert LOOK_EVERY - 1 == len(parse(answer(rows[1:], None), lambda: None)["data"])
    with pytest.raises(Enough):
        parse(answer(rows, None), look)
