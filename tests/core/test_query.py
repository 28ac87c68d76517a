"""Queries: made from values and from words, refused with the remedy, written down and read back."""

import copy
import json
import math
import pickle
import shlex

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from psfharvest.core.catalog.columns import COLUMNS
from psfharvest.core.catalog.criterion import OPEN_END, AnyOf, Between
from psfharvest.core.catalog.detectors import DETECTORS, UVIS
from psfharvest.core.catalog.query import Query, replace_query
from psfharvest.core.errors import BadQuery
from psfharvest.store.manifest.targets import Target, describe


def is_allowed(text: str) -> bool:
    """Return whether a column of numbers may be compared with a text: it spells no inf, nan, or number as large."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return True


NAMES = st.sampled_from(["UVIS", "IR", "WFPC2"])
NUMBERS = st.integers(-(2**40), 2**40) | st.floats(-1e20, 1e20)
VALUES = st.text(
    st.characters(codec="ascii", exclude_characters="=,.", exclude_categories=["Cc", "Zs"]), min_size=1
).filter(is_allowed)
RANGES = st.tuples(st.none() | NUMBERS, st.none() | NUMBERS).filter(lambda p: None in p or p[0] <= p[1])
CRITERIA = VALUES | NUMBERS | st.lists(VALUES | NUMBERS, min_size=1, max_size=4) | RANGES


def queries() -> st.SearchStrategy[Query]:
    """Give any queries that can be."""

    def of(name: str) -> st.SearchStrategy[Query]:
        known = st.sampled_from([c.name for c in COLUMNS.values() if name in c.only])
        return st.builds(
            lambda criteria, columns, limit: Query(name, columns=columns, limit=limit, **criteria),
            st.dictionaries(known, CRITERIA, max_size=4).filter(
                lambda c: not {"date", "mjd"} <= set(c) and not isinstance(c.get("date"), (str, int))
            ),
            st.none() | st.lists(known, min_size=1, max_size=4),
            st.none() | st.integers(0, 10**9),
        )

    return NAMES.flatmap(of)


@given(queries())
@example(Query("UVIS", date=2012, id=1))
@example(Query("UVIS", date=["2012"]))
@example(Query("UVIS", date="2012-05-31"))
def test_a_query_survives_json_pickle_and_its_own_repr(query):
    """What is written down as JSON, pickled, or shown gives the same query again."""
    assert query == Query.from_dict(json.loads(json.dumps(query.to_dict())))
    assert query == pickle.loads(pickle.dumps(query))
    assert query == eval(repr(query), {"Query": Query})
    assert len({query, copy.copy(query)}) == 1


@given(queries(), st.randoms(use_true_random=False), st.sampled_from([None, ["id"], ["qfit", "id"]]))
def test_identity_is_of_the_sources_asked_for(query, random, columns):
    """The order of criteria and of values, and the columns, make no difference to who is asked for."""
    plain = query.to_dict()
    random.shuffle(plain["criteria"])
    for criterion in plain["criteria"]:
        random.shuffle(criterion.get("values", []))

    assert query.identity == Query.from_dict(plain | {"columns": columns}).identity


@given(queries(), queries())
def test_other_queries_have_other_identities(one, other):
    """Queries that differ in detector, limit or any criterion are never taken for the same."""

    def sources(query: Query) -> object:
        criteria = {(c.column, frozenset(c.values) if isinstance(c, AnyOf) else c) for c in query.criteria}
        return query.detector, criteria, query.limit

    assert (sources(one) == sources(other)) == (one.identity == other.identity)


def test_identity_does_not_hang_on_the_order_of_a_set():
    """Values given as a set, whose order changes from process to process, give one identity."""
    names = [f"F{n}W" for n in range(300, 400)]

    assert Query("UVIS", filter=set(names)).identity == Query("UVIS", filter=names[::-1]).identity


@given(queries())
def test_every_criterion_goes_out_whole(query):
    """On the wire a list holds texts, and a range both of its ends, finite and in order."""
    for criterion in query.criteria:
        wire = json.loads(json.dumps(criterion.wire(), allow_nan=False))

        assert criterion.column == wire["paramName"]
        if isinstance(criterion, AnyOf):
            assert list(criterion.values) == wire["values"]
        else:
            (ends,) = wire["values"]

            assert {"min", "max"} == set(ends)
            assert criterion.low in (None, ends["min"])
            assert criterion.high in (None, ends["max"])


@pytest.mark.parametrize(
    ("criterion", "low", "high"),
    [(Between("psf_flux", 1e4, None), 1e4, 1e30), (Between("psf_flux", None, 5), -1e30, 5),
     (Between("id", 3, None), 3, 2**31 - 1), (Between("n_sat_pixels", None, 0), -(2**31) + 1, 0),
     (Between("unheard_of", None, None), -1e30, 1e30)],
)  # fmt: skip
def test_open_ends_are_sent_as_numbers_that_the_columns_type_holds(criterion, low, high):
    """An open end is sent as a very large number of the column's own type, never left out."""
    assert [{"min": low, "max": high}] == criterion.wire()["values"]
    assert OPEN_END["int"] < 2**31
    assert np.isfinite(np.float32(OPEN_END["float"]))


@pytest.mark.parametrize(
    ("word", "criterion"),
    [("filter=F606W", AnyOf("filter", ("F606W",))),
     ("filter=F606W,F814W", AnyOf("filter", ("F606W", "F814W"))),
     (" filter = F606W , F814W ", AnyOf("filter", ("F606W", "F814W"))),
     ("filter=F606W,F606W", AnyOf("filter", ("F606W",))),
     ("chip=2", AnyOf("chip", ("2",))),
     ("psf_x_center=100..102", Between("psf_x_center", 100, 102)),
     ("psf_x_center= 100 .. 102.5 ", Between("psf_x_center", 100, 102.5)),
     ("psf_flux=1e4..", Between("psf_flux", 10000, None)),
     ("focus=..-0.5", Between("focus", None, -0.5)),
     ("focus=-10..10", Between("focus", -10, 10)),
     ("qfit=0..inf", Between("qfit", 0, None)),
     ("focus=.5...7", Between("focus", 0.5, 0.7)),
     ("unheard_of=1", AnyOf("unheard_of", ("1",)))],
)  # fmt: skip
def test_words(word, criterion):
    """A criterion as typed means a value, any of several, or a closed range with ends that may be open."""
    assert (criterion,) == Query.parse("uvis", [word]).criteria


@pytest.mark.parametrize(
    ("word", "remedy"),
    [("filter", "write column=value"), ("filter=", "write column=value"), ("=F606W", "write column=value"),
     ("", "write column=value"), ("filter= ", "write column=value"), ("qfit=..", "at least one end"),
     ("filter=F606W,,F814W", "empty value between commas"), ("filter=,", "empty value between commas"),
     ("qfit=a..b", "a number or open"), ("qfit=1..2..3", "a number or open"), ("qfit=nan..1", "cannot be nan"),
     ("qfit=inf", "finite"), ("psf_flux=1,nan", "finite"), ("id=1e999", "a whole number"),
     ("qfit=1..0", "the lower end comes first"), ("psf_fulx=0", "did you mean psf_flux"),
     ("q fit=0", "did you mean qfit"), ("filter_2=F606W", "only for WFPC2; use filter")],
)  # fmt: skip
def test_words_that_cannot_be_read(word, remedy):
    """A word that cannot be is refused with what to write instead."""
    with pytest.raises(BadQuery, match=remedy):
        Query.parse("UVIS", [word])


@given(NAMES, st.lists(st.text(max_size=30) | st.builds("{}={}".format, st.sampled_from(list(COLUMNS)), st.text())))
def test_any_words_give_a_query_or_badquery(name, words):
    """Nothing that is typed raises anything but BadQuery, and what is accepted survives being written down."""
    try:
        query = Query.parse(name, words)
    except BadQuery:
        return

    assert query == Query.from_dict(json.loads(json.dumps(query.to_dict())))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@given(st.sampled_from(["qfit", "filter"]), ANYTHING)
def test_any_values_give_a_query_or_badquery(column, value):
    """No value that Python can hold raises anything but BadQuery."""
    try:
        query = Query("UVIS", **{column: value})
    except BadQuery as error:
        assert column == error.field  # noqa: PT017 - raised or not, both are right
        return

    json.dumps([c.wire() for c in query.criteria], allow_nan=False)


@pytest.mark.parametrize("words", [["chip=1", "chip=2"], ["filter=F606W", "filter_1=F814W"]])
def test_a_column_has_one_criterion(words):
    """A column given twice, in whichever spelling, is refused with how to say it in one."""
    with pytest.raises(BadQuery, match="two criteria; give one"):
        Query.parse("WFPC2", words)

    with pytest.raises(BadQuery, match="two criteria; give one"):
        Query("WFPC2", filter="F606W", filter_1="F814W")


@pytest.mark.parametrize(
    ("value", "values"),
    [(0, ("0",)), (True, ("1",)), (2.5, ("2.5",)), ("x", ("x",)), (np.int64(7), ("7",)),
     (np.float32(0.5), ("0.5",)), (np.bool_(False), ("0",)), (np.str_("F606W"), ("F606W",)), (np.array(7), ("7",)),
     ([1, "1", 2], ("1", "2")), (np.array([3, 1]), ("3", "1")), ({"F606W"}, ("F606W",)), (range(2), ("0", "1")),
     pytest.param((v for v in "ab"), ("a", "b"), id="generator")],
    ids=repr,
)  # fmt: skip
def test_values_travel_as_texts(value, values):
    """Plain values and numpy's, alone or in any collection, become texts, each once."""
    assert (AnyOf("chip", values),) == Query("UVIS", chip=value).criteria


@pytest.mark.parametrize(
    ("pair", "low", "high"),
    [((100, 102), 100, 102), ((np.float64(1.5), np.int64(2)), 1.5, 2), (("1", "2"), 1, 2), ((None, 5), None, 5),
     ((1e4, None), 10000, None), ((-np.inf, np.inf), None, None), ((3, 3), 3, 3)],
)  # fmt: skip
def test_a_pair_is_a_closed_range(pair, low, high):
    """A tuple of two is a range; None and infinity are open ends; numpy's numbers become plain ones."""
    (found,) = Query("UVIS", qfit=pair).criteria

    assert Between("qfit", low, high) == found
    assert {type(found.low), type(found.high)} <= {int, float, type(None)}


@pytest.mark.parametrize(
    "value",
    [[], (), (1,), (1, 2, 3), (2, 1), ("a", 1), (float("nan"), 1), float("nan"), float("inf"), None, b"F606W",
     pytest.param((10**400, None), id="huge"), pytest.param(10**400, id="huge one"), "1e999", ["0.1", "nan"],
     pytest.param([1, 10**400], id="huge in a list"), pytest.param(object(), id="object"), [None], [[1]],
     np.ma.masked, (np.ma.masked, 1), np.array(["a", None], dtype=object)],
    ids=repr,
)  # fmt: skip
def test_values_that_cannot_be(value):
    """A value that can match nothing, or is none, is refused by its column's name."""
    with pytest.raises(BadQuery) as caught:
        Query("UVIS", qfit=value)

    assert caught.value.field == "qfit"


@pytest.mark.parametrize(
    "limit",
    [-1, 1.5, True, "5", "many", float("nan"), float("inf"), 1e300, pytest.param(10**400, id="huge"), [], None],
)
def test_limits(limit):
    """A limit is a whole number, 0 or more, or None; anything else is bad input."""
    if limit is None:
        assert None is Query("UVIS", limit=limit).limit
        return
    with pytest.raises(BadQuery, match="whole number"):
        Query("UVIS", limit=limit)


@pytest.mark.parametrize("limit", [0, 3, np.int64(3), 3.0])
def test_limits_are_plain_numbers(limit):
    """Any type of whole number serves."""
    assert int(limit) == Query("UVIS", limit=limit).limit
    assert int is type(Query("UVIS", limit=limit).limit)


@pytest.mark.parametrize(
    ("columns", "stored"),
    [(None, None), ("*", None), (["*"], None), ([], None), ("id", ("id",)),
     (["id", "filter", "id"], ("id", "filter_1")), (iter(["qfit", "id"]), ("qfit", "id"))],
)  # fmt: skip
def test_columns(columns, stored):
    """Columns keep their order, each once; a star is all."""
    assert stored == Query("WFPC2", columns=columns).columns


def test_the_callers_objects_stay_as_they_were():
    """No list that is handed in is kept or changed."""
    columns, values = ["id", "filter", "filter"], ["F606W", "F606W"]
    query = Query("WFPC2", columns=columns, filter=values)
    shown = repr(query)
    columns.append("x")
    values.append("x")
    query.to_dict()["columns"].append("x")
    query.to_dict()["criteria"][0]["values"].append("x")

    assert columns == ["id", "filter", "filter", "x"]
    assert values == ["F606W", "F606W", "x"]
    assert shown == repr(query) == "Query('WFPC2', filter_1='F606W', columns=['id', 'filter_1'])"


def test_a_query_cannot_be_changed():
    """A query is a value."""
    with pytest.raises(AttributeError):
        Query("UVIS").limit = 3


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_itself_serves(name):
    """The detector may be given by name or as itself."""
    assert Query(name) == Query(DETECTORS[name])


def test_every_column_may_be_asked_for_by_name():
    """A star names no column, is kept with the query, and asks for the same sources."""
    query = Query(UVIS, columns=["*"])

    assert (None, True) == (query.columns, query.wants_all)
    assert Query.from_dict(query.to_dict()).wants_all
    assert Query(UVIS) == query
    assert not Query(UVIS, columns=["id"]).wants_all


ANY_NUMBERS = (
    st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(0, 10**9)
    | st.floats(0, 1e9, width=32)
)


def _is_no_number_beyond_all(text: str) -> bool:
    """Say whether a text isn't the spelling of a number that no column holds, such as ``INF``, which is refused."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return True


ANY_TEXTS = st.text(max_size=8).filter(_is_no_number_beyond_all) | st.sampled_from(
    ["F606W", "a,b", "..", "1..2", "", " x", "x ", "a=b", "{}", "é", "\n", "'"]
)
ANY_ENDS = st.none() | ANY_NUMBERS
ANY_RANGES = st.tuples(ANY_ENDS, ANY_ENDS).map(lambda pair: tuple(sorted(pair)) if None not in pair else pair)
FILTERS = st.lists(
    st.tuples(ANY_NUMBERS, ANY_NUMBERS).map(sorted).map(lambda p: {"min": p[0], "max": p[1]}), min_size=2
)


@st.composite
def any_queries(draw: st.DrawFn) -> Query:
    """Give queries of every detector with criteria of every kind."""
    detector = draw(st.sampled_from(sorted(DETECTORS)))
    names = draw(
        st.lists(st.sampled_from(["filter", "chip", "qfit", "psf_flux", "mtflag", "unheard_of"]), unique=True)
    )
    values = {
        name: draw(st.lists(ANY_NUMBERS | ANY_TEXTS, min_size=1, max_size=3) | ANY_RANGES | ANY_TEXTS)
        for name in names
    }
    query = Query(detector, limit=draw(st.none() | st.integers(0, 10**12)), id=draw(ANY_RANGES), **values)
    more = draw(FILTERS)
    extra = Query.from_filters(detector, [{"paramName": "sky", "values": more}])
    return replace_query(query, criteria=(*query.criteria, *extra.criteria))


@given(any_queries())
@example(Query("UVIS", id=(8123456, 8234567)))
@example(Query("UVIS", id=(8123456, None), filter="a,b", qfit=[0.1, 1 / 3]))
@example(Query("WFPC2", filter="1..2", chip=""))
def test_a_query_in_words_reads_back_exactly(query: Query) -> None:
    """The words that are shown for a query ask for exactly the same, also as a shell reads them."""
    detector, *words = query.words
    assert query == Query.parse(detector, words, limit=query.limit)

    spec = {"query": query.to_dict(), "suffixes": ["raw"], "unsat_size_px": 51, "sat_size_px": 33}
    shown = shlex.split(describe(Target("query", "", spec)))
    assert [*query.words, "--suffix", "raw"] == shown[: len(query.words) + 2]
    assert describe(Target("query", "", spec)).isprintable()
    assert "--sat-size 33" in describe(Target("query", "", spec))


@given(any_queries(), any_queries())
def test_queries_that_look_alike_are_alike(one: Query, other: Query) -> None:
    """Two queries are shown by the same words only if they are the same."""
    assert (one.words == other.words) == (replace_query(one, limit=None) == replace_query(other, limit=None))
