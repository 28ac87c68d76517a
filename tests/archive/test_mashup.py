"""Queries against the simulated archive: counted, split, polled, and told apart when they fail."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from typing import Any

import anyio
import numpy as np
import pytest

from psfharvest.archive.catalog.listing import Listing
from psfharvest.archive.catalog.mashup import Mashup
from psfharvest.archive.catalog.rows import Rows
from psfharvest.archive.catalog.table_builder import TableBuilder
from psfharvest.archive.endpoints import Endpoints
from psfharvest.archive.wires.httpx_wire import HttpxWire
from psfharvest.client import Archive
from psfharvest.core.catalog.columns import needed
from psfharvest.core.catalog.partition import HIGHEST, LOWEST, Part
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import ArchiveDown, BadQuery
from psfharvest.core.model import Limits, RetryPolicy
from psfharvest.engine.archive_limiter import ArchiveLimiter
from psfharvest.simulator import Fault, Settings, Simulator

QUICK = RetryPolicy(first_delay_s=0.01, max_delay_s=0.05, patience_s=20)
Start = Callable[..., Simulator]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a simulator of 2,000 sources with faults and other settings, for one test."""
    with ExitStack() as stack:

        def started(*faults: Fault, **settings: Any) -> Simulator:
            return stack.enter_context(
                Simulator(Settings(**({"sources": 2000, "seed": 1} | settings)), faults=faults)
            )

        yield started


@pytest.fixture(scope="module")
def plain() -> Iterator[Simulator]:
    """Give a simulator that nothing is wrong with; what it was asked before is forgotten by who needs that."""
    with Simulator(Settings(sources=2000, seed=1)) as sim:
        yield sim


def asking(sim: Simulator, policy: RetryPolicy = QUICK, **limits: Any) -> AbstractAsyncContextManager[Mashup]:
    """Open a client of a simulator's queries."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Mashup]:
        wire = HttpxWire(connections=4)
        try:
            caps = Limits(**limits)
            yield Mashup(
                wire, ArchiveLimiter(caps, policy, is_public=False).share(), Endpoints(sim.url), caps, policy
            )
        finally:
            await wire.aclose()

    return opened()


def ids(sim: Simulator, detector: str = "UVIS") -> list[int]:
    """Give all ids of a database, ascending."""
    return sim.catalogue.rows(detector)["id"].tolist()


async def had(mashup: Mashup, query: Query, finished: list[Part] | None = None) -> list[tuple[Part, Rows]]:
    """Give all parts of a query."""
    return [
        (part.part, part.rows)
        async for part in Listing(mashup, query, [(p, 0) for p in finished or []], every_column=True).parts()
    ]


def ids_of(parts: list[tuple[Part, Rows]]) -> list[int]:
    """Give the ids of parts in the order they came."""
    return [row["id"] for _, rows in parts for row in rows.dicts()]


def asked(sim: Simulator) -> list[dict[str, Any]]:
    """Give the requests that a simulator got, read."""
    return [json.loads(seen.uris[0]) for seen in sim.requests if seen.service == "query"]


@pytest.mark.parametrize("detector", ["UVIS", "IR", "WFPC2"])
async def test_count(plain, detector):
    """A count is the number of sources, with the criteria and without the limit."""
    rows = plain.catalogue.rows(detector)
    chip_1 = rows["chip"] == "1"
    bright = (rows["psf_flux"] >= 1e4) & chip_1
    async with asking(plain) as mashup:
        assert len(chip_1) == await mashup.count(Query(detector, limit=5))
        assert chip_1.sum() == await mashup.count(Query(detector, chip=1))
        assert bright.sum() == await mashup.count(Query(detector, chip="1", psf_flux=(1e4, None)))
        assert 0 == await mashup.count(Query(detector, id=[-5]))


async def test_the_notebooks_query(plain):
    """The published query has its six sources, with every column of the database and the values that it holds."""
    query = Query("UVIS", psf_x_center=(100, 102), psf_y_center=(100, 102), n_sat_pixels=0)
    truth = plain.catalogue.rows("UVIS")
    async with asking(plain) as mashup:
        ((part, rows),) = await had(mashup, query)
    builder = TableBuilder()
    builder.add(rows)
    table = builder.table()

    assert Part(LOWEST, HIGHEST) == part
    assert 6 == len(rows)
    at = np.isin(truth["id"], table["id"])
    assert set(truth) == set(table.colnames)
    for name, values in truth.items():
        np.testing.assert_array_equal(
            values[at], np.asarray(table[name].filled("") if values.dtype.kind == "U" else table[name])
        )


@pytest.mark.parametrize("chip_json", ["string", "number"])
async def test_a_chip_is_a_text(start, chip_json):
    """A chip that travels as a number is a text all the same."""
    async with asking(start(chip_json=chip_json)) as mashup:
        parts = await had(mashup, Query("WFPC2", chip=3, columns=["chip", "mtflag"]))

    assert {("3", "0"), ("3", "1")} >= {(row["chip"], row["mtflag"]) for _, rows in parts for row in rows.dicts()}


async def test_columns_asked_for_come_first(plain):
    """The columns are those asked for, in that order, and behind them what a dataURI needs."""
    query = Query("WFPC2", columns=["sky", "filter", "id"])
    async with asking(plain) as mashup:
        ((_, rows),) = await had(mashup, query)

    wanted = dict.fromkeys(("sky", "filter_1", "id", *needed(query.detector)))
    assert tuple(wanted) == rows.columns


@pytest.mark.sample(1)
@pytest.mark.parametrize("page_rows", [25, 100, 1000])
async def test_a_query_is_split_until_each_part_fits(plain, page_rows):
    """However small the page, the parts hold every source once, ascending, none more than a page."""
    plain.forget()
    async with asking(plain, page_rows=page_rows) as mashup:
        parts = await had(mashup, Query("UVIS"))

    assert ids(plain) == ids_of(parts)
    assert all(len(rows) <= page_rows for _, rows in parts)
    assert plain.count("query") <= 3 * len(parts) + 60


async def test_a_page_of_one_row(plain):
    """Parts of one source each still hold what the criteria choose, and only that."""
    truth = plain.catalogue.rows("UVIS")
    wanted = truth["id"][np.isin(truth["filter"], ["F606W", "F814W"])][:25].tolist()
    async with asking(plain, page_rows=1) as mashup:
        parts = await had(mashup, Query("UVIS", filter=["F606W", "F814W"], id=(None, wanted[-1])))

    assert wanted == ids_of(parts)
    assert len(wanted) == len(parts)


@pytest.mark.sample(1)
@pytest.mark.parametrize("cap", [1, 30, 500])
async def test_an_archive_that_gives_less_than_it_counts(start, cap):
    """Whatever cap on rows an archive turns out to have, and hides, every source comes all the same."""
    sim = start(Fault("short_answer", rows=cap), sources=100 if cap == 1 else 2000)
    async with asking(sim) as mashup:
        assert ids(sim) == ids_of(await had(mashup, Query("UVIS")))


async def test_an_archive_that_caps_its_pages(start):
    """A page size that the archive does not grant is found out, and got round."""
    sim = start(max_answer_rows=100, max_result_rows=100_000)
    async with asking(sim) as mashup:
        assert ids(sim) == ids_of(await had(mashup, Query("UVIS")))


async def test_finished_parts_are_not_asked_for(plain):
    """What an earlier run had is neither asked for nor given again."""
    every = ids(plain)
    half = every[len(every) // 2]
    plain.forget()
    async with asking(plain, page_rows=100) as mashup:
        parts = await had(mashup, Query("UVIS"), [Part(LOWEST, half)])

    assert [i for i in every if i > half] == ids_of(parts)
    for request in asked(plain):
        (between,) = [f["values"][0] for f in request["params"]["filters"] if f["paramName"] == "id"]
        assert between["min"] > half


@pytest.mark.parametrize("limit", [0, 1, 150, 10**6])
async def test_a_limit_takes_the_lowest_ids(plain, limit):
    """N sources are those with the N lowest ids, and no more is asked for than they need."""
    plain.forget()
    async with asking(plain, page_rows=100) as mashup:
        parts = await had(mashup, Query("UVIS", limit=limit))

    assert ids(plain)[:limit] == ids_of(parts)
    assert plain.count("query") <= {0: 0, 1: 40, 150: 45}.get(limit, 10**6)


@pytest.mark.parametrize("page_rows", [3, 1000])
async def test_ids_may_be_asked_for_by_list_and_by_range(plain, page_rows):
    """Criteria on the id itself go together with the splitting on it."""
    every = ids(plain)
    chosen = [every[n] for n in (700, 3, 350, 9, 12)]
    async with asking(plain, page_rows=page_rows) as mashup:
        listed = await had(mashup, Query("UVIS", id=[*chosen, 5]))
        ranged = await had(mashup, Query("UVIS", id=(every[5], every[20])))
        halves = await had(mashup, Query("UVIS", id=(every[5] - 0.5, every[7] + 0.5)))

    assert sorted(chosen) == ids_of(listed)
    assert every[5:21] == ids_of(ranged)
    assert every[5:8] == ids_of(halves)


async def test_only_sql_ints_are_sent_for_ids(plain):
    """No end of a range of ids is sent that an SQL int could not hold."""
    plain.forget()
    async with asking(plain, page_rows=50) as mashup:
        await had(mashup, Query("UVIS"))
    ends = [
        end for request in asked(plain) for f in request["params"]["filters"] for end in f["values"][0].values()
    ]

    assert ends
    assert all(isinstance(end, int) and abs(end) < 2**31 for end in ends)


async def test_an_executing_query_is_polled_with_the_same_request(start):
    """While the archive works, the very same request is sent again, and nothing else."""
    sim = start(executing_polls=2)
    async with asking(sim) as mashup:
        assert len(ids(sim)) == await mashup.count(Query("UVIS"))

    assert 3 == sim.count("query")
    assert 1 == len({seen.body for seen in sim.requests})


async def test_two_queries_are_never_one_job(plain):
    """Each query has a cachebreaker of its own, so that the archive cannot answer with an old result."""
    plain.forget()
    async with asking(plain) as mashup:
        await mashup.count(Query("UVIS"))
        await mashup.count(Query("UVIS"))

    assert 2 == len({request["cacheBreaker"] for request in asked(plain)})


@pytest.mark.parametrize(
    ("fault", "jobs"),
    [
        (Fault("mashup_error", msg="Server is too busy", first=1), [1, 1]),
        (Fault("truncate", service="query", first=2), [1, 1, 2]),
        (Fault("html", service="query", first=6), [1, 1, 2, 2, 2, 3, 3]),
        (Fault("status", code=504, service="query", first=4), [1, 1, 2, 2, 2]),
        (Fault("hang_up", service="query", first=1), [1, 1]),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else None,
)
async def test_a_query_that_fails_becomes_a_new_job_by_and_by(start: Start, fault: Fault, jobs: list[int]) -> None:
    """
    A job may have failed for ever; one that a proxy lost may be under way: each is asked for three times.

    After two failures that may come of too large an answer, a count is begun anew.
    """
    sim = start(fault)
    async with asking(sim) as mashup:
        assert 2000 > await mashup.count(Query("UVIS", id=(LOWEST, HIGHEST))) > 0
    texts = [json.loads(seen.uris[0])["cacheBreaker"] for seen in sim.requests]
    order = list(dict.fromkeys(texts))
    assert jobs == [1 + order.index(text) for text in texts]


async def test_the_request_is_as_documented(plain):
    """The form, its headers and its JSON are those that PROTOCOL documents."""
    plain.forget()
    async with asking(plain, page_rows=5000) as mashup:
        await had(mashup, Query("UVIS", chip="2", psf_x_center=(100, 102)))
    seen, request = plain.requests[-1], asked(plain)[-1]

    assert ("POST", "/api/v0/invoke") == (seen.method, seen.path)
    assert "application/x-www-form-urlencoded" == seen.header("content-type")
    assert seen.body.startswith(b"request=%7B%22service%22%3A%20%22Mast.Catalogs.Filtered.Wfc3Psf.Uvis%22%2C%20")
    assert b"+" not in seen.body
    assert {
        "columns": "*",
        "filters": [
            {"paramName": "chip", "values": ["2"]},
            {"paramName": "psf_x_center", "values": [{"min": 100, "max": 102}]},
        ],
    } == request["params"]
    assert ("json", 5000, 1) == (request["format"], request["pagesize"], request["page"])


OWN_FAULTS = [
    "Invalid column name 'psf_flx'.",
    "Conversion failed when converting the varchar value 'abc' to data type int.",
    "Error converting data type varchar to float.",
    "Incorrect syntax near the keyword 'AND'.",
    "Unknown service: 'Mast.Catalogs.Filtered.Wfc3Psf.Uvis'.",
]
PASSING = [
    "Cannot continue the execution because the session is in the kill state.",
    "Cannot open database \"GR6Plus7\" requested by the login.\nLogin failed for user 'webaccess'.",
    "Timeout Expired.  The timeout period elapsed prior to completion of the operation.",
    "",
]


@pytest.mark.parametrize("words", OWN_FAULTS)
async def test_a_query_at_fault_is_refused_in_the_archives_words(start, words):
    """What the archive says of the query itself comes out at once, in its words, as bad input."""
    sim = start(Fault("mashup_error", msg=words))
    async with asking(sim) as mashup:
        with pytest.raises(BadQuery) as caught:
            await mashup.count(Query("UVIS"))

    assert words in str(caught.value)
    assert 1 == sim.count("query")


async def test_an_unknown_column_is_answered_with_near_ones(plain):
    """A column that only the archive knows not to exist is told with those that are like it, and all there are."""
    async with asking(plain) as mashup:
        with pytest.raises(
            BadQuery, match=r"Invalid column name 'flux'.*Did you mean.*psf_flux.*Known columns of UVIS"
        ):
            await mashup.count(Query("UVIS", flux=(1, 2)))
        with pytest.raises(BadQuery, match="Invalid column name") as caught:
            await had(mashup, Query("UVIS", columns=["brilliance"]))

    assert "brilliance" == caught.value.field
    assert caught.value is not caught.value.__cause__, "who follows the causes to their end never comes there"


async def test_a_value_of_the_wrong_type_is_refused(plain):
    """A value that the archive cannot convert is the query's own fault."""
    async with asking(plain) as mashup:
        with pytest.raises(BadQuery, match="Conversion failed when converting the varchar value 'many'"):
            await mashup.count(Query("UVIS", n_sat_pixels="many"))


@pytest.mark.parametrize("words", PASSING)
async def test_other_errors_are_tried_again(start, words):
    """An error that is not the query's passes: it is asked again, with the same result as ever."""
    sim = start(Fault("mashup_error", msg=words, first=2))
    async with asking(sim) as mashup:
        assert len(ids(sim)) == await mashup.count(Query("UVIS"))

    assert 3 == sim.count("query")


async def test_an_error_that_does_not_pass_ends_with_its_words(start):
    """An archive that goes on saying that it cannot is down, in its words, once the patience ends."""
    sim = start(Fault("mashup_error", msg=PASSING[0]))
    async with asking(sim, RetryPolicy(first_delay_s=0.01, max_delay_s=0.05, patience_s=0.3)) as mashup:
        with pytest.raises(ArchiveDown, match="session is in the kill state"):
            await mashup.count(Query("UVIS"))

    assert sim.count("query") > 1


BROKEN = [
    Fault("html", first=2), Fault("empty", first=2), Fault("text", body="dataset parameter is required", first=2),
    Fault("truncate", at=0.5, framing="close", first=2), Fault("truncate", at=0.5, framing="length", first=2),
    Fault("truncate", at=0.5, framing="chunked", first=2), Fault("reset", first=2), Fault("reset", at=10, first=2),
    Fault("status", code=503, first=2), Fault("status", code=504, first=2), Fault("status", code=404, first=2),
    Fault("status", code=429, retry_after=0, first=2), Fault("garbage", first=2),
]  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN, ids=lambda f: f"{f.kind}-{f.code}-{f.framing}-{f.at}")
async def test_broken_answers_are_asked_for_again(start, fault):
    """A page, nothing, half an answer, an error status or a broken connection is never taken for an answer."""
    fault = Fault.parse("text:{},service=query,first=2") if fault.kind == "text" else fault
    sim = start(on_queries(fault))
    async with asking(sim) as mashup:
        assert len(ids(sim)) == await mashup.count(Query("UVIS"))
        assert 6 == len(ids_of(await had(mashup, Query("UVIS", psf_x_center=(100, 102), psf_y_center=(100, 102)))))


def on_queries(fault: Fault) -> Fault:
    """Give a fault that befalls queries."""
    given = {name: getattr(fault, name) for name in ("code", "retry_after", "body", "at", "framing", "first")}
    return Fault(fault.kind, service="query", **given)


async def test_rows_broken_half_way_are_asked_for_again(start):
    """Trouble with any request of a split query costs that request only; the rows are the same."""
    sim = start(Fault("status", code=503, service="query", every=3), Fault("html", service="query", every=4))
    async with asking(sim, page_rows=100) as mashup:
        assert ids(sim) == ids_of(await had(mashup, Query("UVIS")))


@pytest.mark.parametrize(
    "fault", [Fault("outage"), Fault("status", code=500, service="query")], ids=lambda f: f.kind
)
async def test_an_outage_at_the_first_query(start, fault):
    """An archive that gives nothing but 5xx from the start is down once the patience ends, for few requests."""
    sim = start(fault)
    async with asking(sim, RetryPolicy(first_delay_s=0.05, max_delay_s=1, patience_s=0.5)) as mashup:
        with pytest.raises(ArchiveDown, match="run again later"):
            await had(mashup, Query("UVIS"))

    assert 1 <= sim.count("query") < 15


async def test_an_archive_that_refuses_connections(start):
    """No connection at all is an outage, too; when it ends in time, the query has its answer."""
    sim = start()
    sim.refuse()
    async with asking(sim, RetryPolicy(first_delay_s=0.02, max_delay_s=0.1, patience_s=0.4)) as mashup:
        with pytest.raises(ArchiveDown):
            await mashup.count(Query("UVIS"))
    async with asking(sim) as mashup, anyio.create_task_group() as group:

        async def mend() -> None:
            await anyio.sleep(0.3)
            await anyio.to_thread.run_sync(sim.accept)

        group.start_soon(mend)

        assert len(ids(sim)) == await mashup.count(Query("UVIS"))


@pytest.mark.parametrize("code", [401, 403])
async def test_a_refusal_is_final(start, code):
    """What the archive will not let us ask is not asked twice."""
    sim = start(Fault("status", code=code, service="query"))
    async with asking(sim) as mashup:
        with pytest.raises(ArchiveDown, match=f"HTTP {code}"):
            await mashup.count(Query("UVIS"))

    assert 1 == sim.count("query")


async def test_a_query_service_that_is_not_there_is_given_up(start):
    """A 404 for the service itself is tried as often as a cutout would be, not until the patience ends."""
    sim = start(Fault("status", code=404, service="query"))
    async with asking(sim) as mashup:
        with pytest.raises(ArchiveDown, match="HTTP 404"):
            await mashup.count(Query("UVIS"))

    assert QUICK.attempts == sim.count("query")


async def test_a_query_can_be_left(start):
    """A caller that cancels a query, while it is polled or while it waits for an answer, is free at once."""
    for sim in (start(Fault("executing_forever")), start(Fault("stall", service="query"))):
        async with asking(sim) as mashup:
            with anyio.move_on_after(0.3) as scope:
                await mashup.count(Query("UVIS"))

            assert scope.cancelled_caught


@pytest.mark.campaign
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # thousands of questions
async def test_an_id_counted_but_not_given_ends_the_query(start):
    """An archive that counts what it never gives is not believed, and not asked for ever."""
    sim = start(Fault("short_answer", rows=0), sources=0)
    async with asking(sim) as mashup:
        with pytest.raises(ArchiveDown, match="counts sources with id"):
            await had(mashup, Query("UVIS", limit=1))


@pytest.mark.parametrize("oddity", ["no_id_criterion", "page_repeats"])
async def test_a_table_of_unordered_pages_has_each_source_once_by_ascending_id(start: Start, oddity: str) -> None:
    """Where the archive takes no range of ids, its pages come in any order and repeat rows; the table does not."""
    sim = start(oddities=frozenset([oddity]))
    async with Archive(sim.url, limits=Limits(page_rows=60)) as archive:
        table = await archive.query(Query("UVIS"))

    assert ids(sim) == table["id"].tolist()
