"""
Faults that stop a whole run, or the query before it: work stays pending, nobody is charged, the same call goes on.

Each row is an archive that cannot be reached, or that will not answer; it is harvested on both wires and both ways
at once, then mended, and the same call is made again.
"""

from __future__ import annotations

import gc
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import httpx
import pytest
import trustme

from harness import check_every_file, rows_of, sampled
from psfharvest import Archive, ArchiveDown, BadQuery, Limits, Query, Report, RetryPolicy
from psfharvest.simulator import Fault, Settings, Simulator
from whole.fault_runs import uri_of

WIRES = ("curl", "httpx")
WAYS = ("file", "bundle")
BRIEF = RetryPolicy(attempts=3, first_delay_s=0.05, max_delay_s=0.2, patience_s=0.7)
CALM = RetryPolicy(attempts=3, first_delay_s=0.5, max_delay_s=1, patience_s=1.0)
LONG = RetryPolicy(attempts=3, first_delay_s=0.05, max_delay_s=0.2, patience_s=60)
N = 30


@pytest.fixture
def anyio_backend() -> str:
    """Both loops run the wires in tests/archive; here it is about what comes of it."""
    return "asyncio"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who is trusted."""
    return trustme.CA()


@pytest.fixture
def context(
    authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext:
    """What a client trusts, on both wires."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return ssl.create_default_context(cafile=str(path))


async def harvest(
    url: str,
    folder: Path,
    wire: str,
    via: str,
    context: ssl.SSLContext,
    policy: RetryPolicy,
    first: int = 1,
    connections: int = 3,
) -> Report:
    """Harvest the same cutouts, over the wire and by the way given."""
    async with AsyncExitStack() as stack:
        client = httpx.AsyncClient(verify=context) if wire == "httpx" else None
        if client is not None:
            await stack.enter_async_context(client)
        limits = Limits(max_connections=connections, timeout_s=20)
        archive = await stack.enter_async_context(Archive(url, client=client, limits=limits, retry=policy))
        with anyio.fail_after(60):
            return await archive.harvest([uri_of(first * 1000 + k) for k in range(N)], folder, via=via)


async def harvest_all(url: str, base: Path, context: ssl.SSLContext, policy: RetryPolicy) -> dict[str, Report]:
    """Harvest on both wires and both ways at once, each into a folder of its own, which is its name."""
    reports: dict[str, Report] = {}

    async def one(wire: str, via: str) -> None:
        name = f"{wire}-{via}"
        first = 1 + 2 * WIRES.index(wire) + WAYS.index(via)
        reports[name] = await harvest(url, base / name, wire, via, context, policy, first)

    async with anyio.create_task_group() as group:
        for wire in WIRES:
            for via in WAYS:
                group.start_soon(one, wire, via)
    return reports


@contextmanager
def certified(cert: trustme.LeafCert) -> Iterator[Simulator]:
    """Serve with a certificate."""
    with (
        cert.private_key_and_cert_chain_pem.tempfile() as path,
        Simulator(Settings(sources=0), tls=(path, path)) as found,
    ):
        yield found


@dataclass(frozen=True)
class Stop:
    """Why no request succeeds: where the archive seems to be, and what it does."""

    words: str
    """What the report says of it."""
    faults: tuple[Fault, ...] = ()
    url: Callable[[Simulator], str] = lambda simulator: simulator.url
    cert: Callable[[trustme.CA], trustme.LeafCert] | None = None
    is_refusing: bool = False


def https(simulator: Simulator) -> str:
    return simulator.url.replace("http:", "https:")


def plain(simulator: Simulator) -> str:
    return simulator.url.replace("https:", "http:")


@pytest.fixture
def _collected() -> Iterator[None]:
    """Have what httpcore leaves behind collected here, not in somebody else's test."""
    yield
    gc.collect()


def may_leave_sockets(test: Callable[..., object]) -> Callable[..., object]:
    """
    Let sockets be left open: httpcore, cancelled within a TLS handshake, closes its own only when it is collected.

    A run that stops cancels its last probe, and that may be within a handshake.
    """
    return pytest.mark.filterwarnings("ignore::ResourceWarning")(pytest.mark.usefixtures("_collected")(test))


LONG_AGO = datetime.now(UTC) - timedelta(days=365)
STOPS = {
    "refused": Stop("", is_refusing=True),
    "no such name": Stop("", url=lambda _: "http://archive.invalid"),
    "untrusted": Stop("", cert=lambda _: trustme.CA().issue_cert("127.0.0.1")),
    "another name": Stop("", cert=lambda ca: ca.issue_cert("archive.example")),
    "expired": Stop("", cert=lambda ca: ca.issue_cert("127.0.0.1", not_before=LONG_AGO, not_after=LONG_AGO)),
    "TLS to plain": Stop("", url=https),
    "503 to all": Stop("503", (Fault("outage"),)),
    "500 to all": Stop("500", (Fault("status", code=500),)),
    "429, come back tomorrow": Stop("429", (Fault("status", code=429, retry_after="86400"),)),
    "429, come back in 2099": Stop(
        "429", (Fault("status", code=429, retry_after="Sat, 01 Aug 2099 00:00:00 GMT"),)
    ),
    "429, come back never": Stop("429", (Fault("status", code=429, retry_after="9" * 12),)),
    "503, come back tomorrow": Stop("503", (Fault("status", code=503, retry_after="date+86400"),)),
}


@pytest.mark.sample(1)
@may_leave_sockets
@pytest.mark.parametrize("name", sampled(STOPS, ["refused", "untrusted", "503 to all", "429, come back tomorrow"]))
async def test_a_stop_leaves_work_that_goes_on(
    name: str, authority: trustme.CA, context: ssl.SSLContext, tmp_path: Path
) -> None:
    """Out of reach past the patience: nothing is done, nothing failed; mended, the same call does all of it."""
    stop = STOPS[name]
    serving = certified(stop.cert(authority)) if stop.cert else Simulator(Settings(sources=0), stop.faults)
    with serving as simulator:
        if stop.is_refusing:
            simulator.refuse()
        stopped = await harvest_all(stop.url(simulator), tmp_path, context, BRIEF)
        if stop.is_refusing:
            simulator.accept()
        n_asked = simulator.count()

    for found in stopped.values():
        assert (N, N, "archive_down", 75) == (found.total, found.pending, found.stopped, found.exit_status)
        assert stop.words in found.notes[-1]
        assert "run again later" in found.notes[-1]
    assert n_asked <= 4 * 40, "an archive that is down is asked rarely"

    with Simulator(Settings(sources=0)) as simulator:
        again = await harvest_all(simulator.url, tmp_path, context, LONG)
        for wire_and_way, found in again.items():
            assert (N, 0, "") == (found.done, found.exit_status, found.stopped)
            assert {1} == {row["attempts"] for row in rows_of(tmp_path / wire_and_way)}
            assert N == check_every_file(tmp_path / wire_and_way, simulator)


REASONS = {
    "no such name": "dns",
    "refused": "refused",
    "untrusted": "tls",
    "another name": "tls",
    "expired": "tls",
    "TLS to plain": "tls",
}


@pytest.mark.sample(1)
@may_leave_sockets
@pytest.mark.parametrize("name", sampled(REASONS, ["no such name", "refused", "expired"]))
async def test_what_was_lost_is_called_by_its_name(
    name: str, authority: trustme.CA, context: ssl.SSLContext, tmp_path: Path
) -> None:
    """What no connection came about for stands in the report, on each wire and way."""
    stop = STOPS[name]
    serving = certified(stop.cert(authority)) if stop.cert else Simulator(Settings(sources=0))
    with serving as simulator:
        if stop.is_refusing:
            simulator.refuse()
        stopped = await harvest_all(stop.url(simulator), tmp_path, context, BRIEF)

    assert [{REASONS[name]}] * 4 == [set(found.retried) for found in stopped.values()]


@may_leave_sockets
async def test_a_trusted_certificate_is_no_trouble(
    authority: trustme.CA, context: ssl.SSLContext, tmp_path: Path
) -> None:
    """The rows above fail for what they say: with the right certificate all is done."""
    with certified(authority.issue_cert("127.0.0.1")) as simulator:
        reports = await harvest_all(simulator.url, tmp_path, context, LONG)

        assert [N] * 4 == [found.done for found in reports.values()]


@pytest.mark.campaign
@pytest.mark.sample(1)
@pytest.mark.parametrize("words", [["count", "UVIS"], ["fetch", uri_of(1000)]], ids=["count", "fetch"])
def test_plain_http_to_a_port_that_speaks_tls(psfharvest, authority: trustme.CA, words: list[str]) -> None:
    """What may be the matter is said at once and at the end; until then the command is never silent."""
    with certified(authority.issue_cert("127.0.0.1")) as simulator:
        hint = f"if it speaks HTTPS, write {simulator.url}"
        run = psfharvest(*words, "--archive", plain(simulator), "--patience", "15")
        first, *more, last = run.err.splitlines()

    assert 75 == run.status
    assert f"cannot reach {plain(simulator)}" in first
    assert hint in first
    assert any("still waiting" in line for line in more), run.err
    assert hint in last


@pytest.mark.parametrize("wire", WIRES)
async def test_cutouts_that_lead_to_a_host_out_of_reach_are_their_own_trouble(
    wire: str, context: ssl.SSLContext, tmp_path: Path
) -> None:
    """The archive itself answers: all else is done, and the run ends, as often as it is made."""
    with Simulator(Settings(sources=0)) as simulator:
        simulator.faults = [Fault("redirect", service="file", rate=0.4, url="http://127.0.0.1:1/")]
        for _ in range(2):
            found = await harvest(simulator.url, tmp_path / wire, wire, "file", context, BRIEF)
            assert (N, 0, "") == (found.done + found.failed, found.pending, found.stopped)
            assert 3 < found.failed < N / 2
            assert {"refused": found.failed} == dict(found.reasons)


async def test_an_outage_in_the_middle(context: ssl.SSLContext, tmp_path: Path) -> None:
    """What was done before an outage stays done, what comes after it is pending; then the rest is asked for."""
    with Simulator(Settings(sources=0)) as simulator:
        for wire in WIRES:
            simulator.faults = [Fault("outage", start=8)]
            found = await harvest(simulator.url, tmp_path / wire, wire, "file", context, CALM, connections=12)
            n_done = found.done
            assert (N, "archive_down", 0) == (found.done + found.pending, found.stopped, found.failed)
            assert 1 <= n_done <= 7
            simulator.faults = []
            simulator.forget()
            again = await harvest(simulator.url, tmp_path / wire, wire, "file", context, LONG)
            assert (N, N - n_done) == (again.done, simulator.count("file"))
            assert N == check_every_file(tmp_path / wire, simulator)


@pytest.mark.sample(2)
@pytest.mark.parametrize("code", [302, 307, 308])
async def test_a_redirect_to_another_host_takes_no_token_along(
    code: int, context: ssl.SSLContext, tmp_path: Path
) -> None:
    """Cutouts and bundles may come from another host; the token stays with the first."""
    with Simulator(Settings(sources=0)) as other, Simulator(Settings(sources=0)) as simulator:
        simulator.faults = [Fault("redirect", url=f"{other.url}{{path}}", code=code)]
        for wire in WIRES:
            for via in ("file",) if code == 302 else WAYS:
                simulator.forget()
                other.forget()
                client = httpx.AsyncClient(verify=context) if wire == "httpx" else None
                async with AsyncExitStack() as stack:
                    if client is not None:
                        await stack.enter_async_context(client)
                    archive = await stack.enter_async_context(Archive(simulator.url, client=client, token="mine"))
                    folder = tmp_path / f"{wire}-{via}"
                    report = await archive.harvest([uri_of(k) for k in range(9)], folder, via=via)

                assert (9, {}) == (report.done, report.retried)
                assert {"token mine"} == {seen.header("authorization") for seen in simulator.requests}
                assert {None} == {seen.header("authorization") for seen in other.requests}
                assert other.count(via) == simulator.count(via) > 0
                assert 9 == check_every_file(folder, other)


WORDS = [
    "Cannot continue the execution because the session is in the kill state.",
    'Cannot open database "GR6Plus7" requested by the login. The login failed.\nLogin failed for user.',
    "Timeout Expired.  The timeout period elapsed prior to completion of the operation.",
]
QUERY_FAULTS = {
    **{f"{code}": Fault("status", code=code) for code in (500, 502, 503, 504)},
    "429, Retry-After: 1": Fault("status", code=429, retry_after="1"),
    "503, Retry-After as a date": Fault("status", code=503, retry_after="date+1"),
    **{f"ERROR {k}": Fault("mashup_error", msg=words) for k, words in enumerate(WORDS)},
    "reset": Fault("reset", at=1),
    "reset half way": Fault("reset", at=0.5),
    "closed": Fault("hang_up"),
    "cut": Fault("truncate", at=0.5),
    "cut in chunks": Fault("truncate", at=0.5, framing="chunked"),
    "cut, no length": Fault("truncate", at=0.5, framing="close"),
    "length too small": Fault("wrong_length", by=-40),
    "empty": Fault("empty"),
    "HTML": Fault("html"),
    "text": Fault("text", body="Service Unavailable"),
    "other JSON": Fault("text", body='["COMPLETE"]'),
    "no status": Fault("text", body="{}"),
    "no HTTP": Fault("garbage"),
    "redirect to a file": Fault("redirect", url="file:///etc/passwd"),
}
QUERY = Query("UVIS", filter="F606W", limit=12)


FAULTS_OF = {name: {k: getattr(f, k) for k in f.__dataclass_fields__} for name, f in QUERY_FAULTS.items()}


async def by_query(url: str, base: Path, context: ssl.SSLContext, policy: RetryPolicy) -> list[Report | str]:
    """Harvest a query on both wires at once; an archive that is down at the first question is told by its words."""
    found: list[Report | str] = []

    async def one(wire: str) -> None:
        async with AsyncExitStack() as stack:
            client = httpx.AsyncClient(verify=context) if wire == "httpx" else None
            if client is not None:
                await stack.enter_async_context(client)
            archive = await stack.enter_async_context(Archive(url, client=client, retry=policy))
            try:
                with anyio.fail_after(60):
                    found.append(await archive.harvest(QUERY, base / wire, suffixes=["flt"]))
            except (ArchiveDown, BadQuery) as error:
                found.append(f"{type(error).__name__}: {error}")

    async with anyio.create_task_group() as group:
        for wire in WIRES:
            group.start_soon(one, wire)
    return found


@pytest.fixture(scope="module")
def catalogue() -> Iterator[Simulator]:
    """An archive with something to ask for."""
    with Simulator(Settings(sources=1000, seed=3)) as found:
        yield found


ALWAYS = ["503", "ERROR 0", "closed", "cut", "HTML", "no status"]
"""Lasting faults of the default run; the others spoil one answer there."""


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", sampled(QUERY_FAULTS, QUERY_FAULTS.keys() - ALWAYS))
async def test_a_query_fails_once(catalogue: Simulator, context: ssl.SSLContext, tmp_path: Path, name: str) -> None:
    """Each question of a query is answered badly once; the next answer counts, and nothing is missing."""
    catalogue.faults = [Fault(**FAULTS_OF[name] | {"service": "query", "times": 1})]
    catalogue.forget()
    for report in await by_query(catalogue.url, tmp_path, context, LONG):
        assert isinstance(report, Report)
        assert (12, 12, True) == (report.total, report.done, report.is_fully_asked)

    questions = Counter(seen.body for seen in catalogue.requests if seen.service == "query")
    assert len(questions) >= 2 * len(WIRES)
    assert min(questions.values()) >= 2
    assert max(questions.values()) <= 3, "a kept connection may have died once more"
    for wire in WIRES:
        assert 12 == check_every_file(tmp_path / wire, catalogue)


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", sampled(QUERY_FAULTS, ALWAYS))
async def test_a_query_fails_always(
    catalogue: Simulator, context: ssl.SSLContext, tmp_path: Path, name: str
) -> None:
    """The rows cannot be had: the run stops, claims nothing, and the same call goes on."""
    catalogue.faults = [Fault(**FAULTS_OF[name] | {"service": "query"})]
    for words in await by_query(catalogue.url, tmp_path, context, BRIEF):
        assert isinstance(words, str)
        assert words.startswith("ArchiveDown:")
    assert [] == list(tmp_path.iterdir())

    catalogue.faults = [Fault(**FAULTS_OF[name] | {"service": "query", "match": '"page"'})]
    for stopped in await by_query(catalogue.url, tmp_path, context, BRIEF):
        assert isinstance(stopped, Report)
        assert (0, "archive_down", 75) == (stopped.total, stopped.stopped, stopped.exit_status)
        assert not stopped.is_fully_asked

    catalogue.faults = []
    for again in await by_query(catalogue.url, tmp_path, context, LONG):
        assert isinstance(again, Report)
        assert (12, 12, 0) == (again.total, again.done, again.exit_status)


@pytest.mark.parametrize("words", ["Invalid column name 'zz'.", "Conversion failed when converting the value."])
async def test_a_query_that_is_wrong_is_refused_at_once(
    catalogue: Simulator, context: ssl.SSLContext, tmp_path: Path, words: str
) -> None:
    """What the archive says of the query itself is the caller's to mend: one request, in its words."""
    catalogue.faults = [Fault("mashup_error", msg=words)]
    catalogue.forget()
    for told in await by_query(catalogue.url, tmp_path, context, LONG):
        assert isinstance(told, str)
        assert told.startswith("BadQuery:")
        assert words in told

    assert len(WIRES) == catalogue.count("query")
    assert [] == list(tmp_path.iterdir())
