"""Queries are answered as Mashup answers them, errors included."""

import json
from urllib.parse import quote, quote_plus

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampling import examples

BOX = [
    {"paramName": "psf_x_center", "values": [{"min": 100, "max": 102}]},
    {"paramName": "psf_y_center", "values": [{"min": 100, "max": 102}]},
    {"paramName": "n_sat_pixels", "values": ["0"]},
]
PAGE = {"page": 1, "pagesize": 50_000}


def test_notebook_query(plain):
    """The notebook's query gets its six rows, each with the asked columns."""
    answer = plain.query("id,rootname,chip", BOX, **PAGE)

    assert answer["status"] == "COMPLETE"
    assert len(answer["data"]) == 6
    assert answer["fields"] == [
        {"name": "id", "type": "int"},
        {"name": "rootname", "type": "string"},
        {"name": "chip", "type": "string"},
    ]
    assert {"id", "rootname", "chip"} == set(answer["data"][0])
    assert list(answer["data"][0]) != [field["name"] for field in answer["fields"]]
    assert answer["paging"] == {
        "page": 1,
        "pageSize": 50_000,
        "pagesFiltered": 1,
        "rows": 6,
        "rowsFiltered": 6,
        "rowsTotal": 6,
    }


def test_count(plain):
    """A count is one row of one number, whatever page is asked, under a field of type string."""
    answer = plain.query("COUNT_BIG(*)", BOX, page=3, pagesize=1)

    assert (answer["data"], answer["fields"]) == ([{"Column1": 6}], [{"name": "Column1", "type": "string"}])


@settings(max_examples=examples(40), deadline=None)
@given(data=st.data())
def test_counts_and_rows_agree_with_the_catalogue(plain, data):
    """Ranges and any-of criteria, on every kind of column, select what the catalogue's own arrays say."""
    detector = data.draw(st.sampled_from(["UVIS", "IR", "WFPC2"]))
    rows = plain.sim.catalogue.rows(detector)
    column = data.draw(st.sampled_from(sorted(rows)))
    values = rows[column]
    if values.dtype.kind == "U":
        picked = data.draw(st.lists(st.sampled_from(sorted(set(values.tolist()) - {""})), min_size=1, max_size=3))
        keeps = np.isin(values, picked)
        filters = [{"paramName": column, "values": picked}]
    else:
        low, high = sorted(data.draw(st.tuples(*[st.sampled_from(values[~np.isnan(values)].tolist())] * 2)))
        keeps = (values >= low) & (values <= high)
        filters = [{"paramName": column, "values": [{"min": low, "max": high}]}]
    answer = plain.query("id," + column, filters, detector, **PAGE)

    assert sorted(rows["id"][keeps].tolist()) == sorted(row["id"] for row in answer["data"])
    assert int(keeps.sum()) == plain.query("COUNT_BIG(*)", filters, detector)["data"][0]["Column1"]


def test_rows_print_as_the_catalogue_has_them(plain):
    """All columns of all rows are the catalogue's, with null for what is not there."""
    for detector in ("UVIS", "IR", "WFPC2"):
        rows = plain.sim.catalogue.rows(detector)
        answer = plain.query("*", [], detector, **PAGE)
        found = sorted(answer["data"], key=lambda row: row["id"])

        assert list(rows) == [field["name"] for field in answer["fields"]]
        for name, values in rows.items():
            expected = [None if str(value) in {"", "nan"} else value for value in values.tolist()]
            assert expected == [row[name] for row in found]


def test_numeric_columns_take_strings(plain):
    """Discrete values of numeric columns come as strings, and select all the same."""
    number = plain.sim.catalogue.rows("UVIS")["iso_index"][0].item()
    same = [
        plain.query("COUNT_BIG(*)", [{"paramName": "iso_index", "values": [value]}])["data"]
        for value in (number, str(number))
    ]

    assert same[0] == same[1]
    assert same[0][0]["Column1"] >= 1


def test_several_ranges_and_free_text(plain):
    """A filter may hold several ranges, or a pattern with % and no values."""
    rows = plain.sim.catalogue.rows("UVIS")
    ranges = [{"paramName": "qfit", "values": [{"min": 0, "max": 0.01}, {"min": 0.2, "max": 1}]}]
    like = [{"paramName": "filter", "values": [], "freeText": "F8%"}]

    assert ((rows["qfit"] <= 0.01) | (rows["qfit"] >= 0.2)).sum() == plain.query("COUNT_BIG(*)", ranges)["data"][0][
        "Column1"
    ]
    assert np.char.startswith(rows["filter"], "F8").sum() == plain.query("COUNT_BIG(*)", like)["data"][0]["Column1"]


def test_pages(plain):
    """Pagesize has no effect without a page; with one, rows beyond the last page are none."""
    total = len(plain.sim.catalogue["UVIS"])
    size = 100
    last = plain.query("id", [], page=9, pagesize=size)

    assert total == len(plain.query("id", [], pagesize=10)["data"])
    assert size == len(plain.query("id", [], page=2, pagesize=size)["data"])
    assert (total - 800, -(-total // size), total) == (
        len(last["data"]),
        last["paging"]["pagesFiltered"],
        last["paging"]["rowsTotal"],
    )
    assert plain.query("id", [], page=10, pagesize=size)["data"] == []


def test_default_page_holds_a_thousand_rows(start):
    """Without a page an answer has 1,000 rows and tells of the others."""
    asker = start(sources=5_000)
    answer = asker.query("id", [])

    assert (len(answer["data"]), answer["paging"]["pagesFiltered"]) == (1_000, 3)


def test_order_changes_from_call_to_call(plain):
    """The same query twice has the same rows in another order."""
    one, two = (plain.query("id", [], **PAGE)["data"] for _ in range(2))

    assert one != two
    assert sorted(row["id"] for row in one) == sorted(row["id"] for row in two)


def test_order_by_job_or_id(start):
    """With the switches, pages of one job fit together, or rows come sorted."""
    by_job, by_id = start(row_order="job"), start(row_order="id")
    total = len(by_job.sim.catalogue["UVIS"])
    pages = [by_job.query("id", [], page=page, pagesize=30, cachebreaker="x")["data"] for page in (1, 2, 3, 4)]
    ids = [row["id"] for row in by_id.query("id", [], **PAGE)["data"]]

    assert total == len({row["id"] for page in pages for row in page})
    assert sorted(ids) == ids


def test_cap_and_hard_limit(start):
    """No answer holds more rows than the cap, and beyond the hard limit the connection is reset."""
    asker = start(max_answer_rows=20, max_result_rows=80)
    few = [{"paramName": "n_sat_pixels", "values": ["0"]}, {"paramName": "chip", "values": ["2"]}]
    capped = asker.query("id", few, **PAGE)

    assert len(capped["data"]) == 20
    assert capped["paging"]["rowsTotal"] > 20
    with pytest.raises(httpx.TransportError):
        asker.query("id", [], **PAGE)
    assert asker.query("COUNT_BIG(*)", [])["data"][0]["Column1"] == 105


@pytest.mark.parametrize(
    ("columns", "filters", "words"),
    [
        ("id,xyz", [], "Invalid column name 'xyz'."),
        ("id", [{"paramName": "abc", "values": ["1"]}], "Invalid column name 'abc'."),
        ("proptype", [], None),
        ("filter_1", [], "Invalid column name 'filter_1'."),
        (
            "id",
            [{"paramName": "n_sat_pixels", "values": ["x"]}],
            "Conversion failed when converting the varchar value 'x' to data type int.",
        ),
        (
            "id",
            [{"paramName": "sky", "values": [{"min": "low", "max": 1}]}],
            "Error converting data type varchar to float.",
        ),
        ("id", [{"paramName": "sky", "values": [{"min": 1}]}], "Incorrect syntax near the keyword 'AND'."),
        ("", [], "Parameter 'columns' is required."),
    ],
)
def test_error_words(plain, columns, filters, words):
    """What a query gets wrong is told in SQL Server's words, with status 200."""
    answer = plain.query(columns, filters, **PAGE)

    assert ("ERROR" if words else "COMPLETE", words or "") == (answer["status"], answer["msg"])


def test_nonsense_is_an_error_too(plain):
    """A request that is no request, and a service that is none, are ERROR answers."""
    answers = [plain.http.post("/api/v0/invoke", data={"request": text}).json() for text in ("{", "[]", "{}")]
    answers.append(plain.query("id", [], "Mast.Nothing"))

    assert [answer["status"] for answer in answers] == ["ERROR"] * 4
    assert answers[-1]["msg"] == "Unknown service: 'Mast.Nothing'."


def test_lone_bounds_are_a_switch(start):
    """A range with one end is open, or no criterion, as the switch says."""
    lone = [{"paramName": "id", "values": [{"min": 20_000_000}]}]
    opened, ignored = start(lone_bound="open"), start(lone_bound="ignore")
    total = len(opened.sim.catalogue["UVIS"])

    assert 0 < opened.query("COUNT_BIG(*)", lone)["data"][0]["Column1"] < total
    assert total == ignored.query("COUNT_BIG(*)", lone)["data"][0]["Column1"]


def test_exclusive_ranges_and_numeric_chips_are_switches(start):
    """Ranges may leave their ends out, and a chip may be a JSON number under a field of type string."""
    asker = start(ranges_inclusive=False, chip_json="number")
    exact = [{"paramName": "id", "values": [{"min": 8184981, "max": 8184981}]}]
    row = asker.query("chip", [{"paramName": "id", "values": ["8184981"]}], **PAGE)

    assert asker.query("COUNT_BIG(*)", exact)["data"][0]["Column1"] == 0
    assert (row["data"], row["fields"]) == ([{"chip": 2}], [{"name": "chip", "type": "string"}])


def test_get_and_both_quotings(plain):
    """The request comes in a POST or a GET, with blanks as %20 or as plus signs."""
    form = {
        "service": "Mast.Catalogs.Filtered.Wfc3Psf.Uvis",
        "params": {"columns": "id", "filters": BOX},
        "format": "json",
    }
    text = json.dumps(form)
    form_type = {"content-type": "application/x-www-form-urlencoded"}
    counts = {
        len(answer.json()["data"])
        for answer in (
            plain.http.get(f"/api/v0/invoke?request={quote(text)}"),
            plain.http.get(f"/api/v0/invoke?request={quote_plus(text)}"),
            plain.http.post("/api/v0/invoke", content=f"request={quote(text)}", headers=form_type),
            plain.http.post("/api/v0/invoke", content=f"request={quote_plus(text)}", headers=form_type),
        )
    }

    assert {6} == counts


def test_extjs_form(plain):
    """Without a format an answer is a table of extjs, with rows in the order of its fields."""
    answer = plain.query("id,filter", BOX, format="extjs", **PAGE)
    table = answer["data"]["Tables"][0]
    count = plain.query("COUNT_BIG(*)", BOX, format="extjs")["data"]["Tables"][0]

    assert [field["name"] for field in table["Fields"]] == ["id", "filter"]
    assert 8184981 in {row[0] for row in table["Rows"]}
    assert table["ExtendedProperties"]["Paging"]["rowsTotal"] == 6
    assert count["Rows"] == [[6]]


def test_executing_until_polled_enough(start):
    """A job executes for as many polls as set, known by its cachebreaker, and stays complete."""
    asker = start(executing_polls=2)
    one = [asker.query("id", BOX, cachebreaker="a", **PAGE)["status"] for _ in range(4)]
    two = asker.query("id", BOX, cacheBreaker="b", **PAGE)["status"]

    assert (one, two) == (["EXECUTING", "EXECUTING", "COMPLETE", "COMPLETE"], "EXECUTING")


def portal(asker):
    """Point astroquery at a simulator."""
    from astroquery.mast.discovery_portal import PortalAPI  # seconds, which no other worker has to pay

    api = PortalAPI()
    api.MAST_REQUEST_URL = f"{asker.sim.url}/api/v0/invoke"
    api.COLUMNS_CONFIG_URL = f"{asker.sim.url}/portal/Mashup/Mashup.asmx/columnsconfig"
    return api


def test_astroquery_gets_the_same_rows(start):
    """astroquery itself, through columnsconfig, polling and its own paging, reads the catalogue."""
    asker = start(executing_polls=1, row_order="job")
    service = "Mast.Catalogs.Filtered.Wfc3Psf.Uvis"
    api = portal(asker)
    table = api.service_request(service, {"columns": "*", "filters": []}, pagesize=40)
    table.sort("id")
    rows = asker.sim.catalogue.rows("UVIS")

    assert len(rows["id"]) == len(table)
    assert asker.sim.count("columns") == 1
    for name in ("id", "rootname", "filter", "chip", "x_cal", "y_raw", "qfit", "focus"):
        found = table[name].filled("") if rows[name].dtype.kind == "U" else table[name].data.data
        np.testing.assert_array_equal(rows[name], found)
    api._session.close()


def test_astroquery_hears_errors(plain):
    """astroquery raises the archive's words."""
    from astroquery.exceptions import RemoteServiceError

    api = portal(plain)
    with pytest.raises(RemoteServiceError, match="Invalid column name 'xyz'"):
        api.service_request("Mast.Catalogs.Filtered.Wfc3Psf.Ir", {"columns": "xyz", "filters": []})
    api._session.close()


def test_columns_config_of_an_unknown_service_is_empty(plain):
    """columnsconfig says nothing at all where it knows nothing."""
    answer = plain.http.post("/portal/Mashup/Mashup.asmx/columnsconfig", data={"colConfigId": "Mast.Nothing"})

    assert (answer.status_code, answer.content) == (200, b"")
