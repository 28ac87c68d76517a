"""
The fault matrix: every row of the fault table, on each wire, into each sink, by file and by bundle.

All rows of one wire and way are harvested at once, each into a folder of its own, over real sockets; then each is
held against its expectation. Into files go all tempers of a fault; into the other sinks, which see no more of a
fault than that a cutout comes later, the first.

The default run has a covering selection: every row once, spread so that each pair of wire, way, sink and temper
occurs several times. The rest carries the ``campaign`` marker.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness import parquet_bytes, rows_of, sampled, stored_bytes
from psfharvest.simulator import Settings, Simulator
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.recover import audit
from whole.fault_runs import N_GOOD, Run, Spot, run_all
from whole.fault_table import ALWAYS, BOTH, EVERYWHERE, ONCE, cases

N = N_GOOD + 1
SPOTS = [
    Spot(wire, sink, case)
    for wire in ("curl", "httpx")
    for way in BOTH
    for sink in ("files", "shards", "parquet")
    for case in cases(way)
    if sink == "files" or case.temper not in (ALWAYS, EVERYWHERE) or len(case.row.ends_by(way)) == 1
]


def pairs_of(spot: Spot) -> list[tuple[tuple[str, str], ...]]:
    """Return each pair of the settings of a harvest: wire, way, sink, temper."""
    settings = {"wire": spot.wire, "way": spot.case.way, "sink": spot.sink, "temper": spot.case.temper}
    return list(combinations(settings.items(), 2))


def covering(spots: Sequence[Spot]) -> set[Spot]:
    """
    Select one spot for each row: always the one whose rarest pairs of settings were chosen least.

    What waits for a deadline waits for one only.
    """
    candidates: dict[str, list[Spot]] = {}
    for spot in spots:
        candidates.setdefault(spot.case.row.name, []).append(spot)
    n_chosen: Counter[tuple[tuple[str, str], ...]] = Counter()
    selected = set()
    for alike in candidates.values():
        short = [spot for spot in alike if spot.case.temper == ONCE or not spot.case.row.is_slow] or alike
        best = min(short, key=lambda spot: sorted(n_chosen[pair] for pair in pairs_of(spot)))
        n_chosen.update(pairs_of(best))
        selected.add(best)
    return selected


COVERING = covering(SPOTS)


class Matrix:
    """The runs, carried out when the first of their wire and way is looked at; only those that are asked for."""

    def __init__(self, simulator: Simulator, base: Path, wanted: list[Spot]) -> None:
        self.simulator = simulator
        self._base = base
        self._wanted = wanted
        self._runs: dict[Spot, Run] = {}

    def run_of(self, spot: Spot) -> Run:
        if spot not in self._runs:
            beside = [s for s in self._wanted if (s.wire, s.case.way) == (spot.wire, spot.case.way)]
            folder = self._base / f"{spot.wire}-{spot.case.way}"
            self._runs |= run_all(self.simulator, beside, folder)
        return self._runs[spot]


@pytest.fixture(scope="module")
def matrix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """The matrix, over one simulator."""
    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = [p["spot"] for p in params if "spot" in p]
    with Simulator(Settings(sources=0)) as simulator:
        yield Matrix(simulator, tmp_path_factory.mktemp("matrix"), wanted)


def test_the_default_run_covers_each_row_and_each_pair_of_settings() -> None:
    """Each row is run; a pair of settings that occurs at all occurs in three runs at least."""
    n_covered = Counter(pair for spot in COVERING for pair in pairs_of(spot))

    assert {spot.case.row.name for spot in SPOTS} == {spot.case.row.name for spot in COVERING}
    assert {pair for spot in SPOTS for pair in pairs_of(spot)} == set(n_covered)
    assert min(n_covered.values()) >= 3


@pytest.mark.sample(1000)
@pytest.mark.timeout(1800)  # the first of a wire and way waits for all of them
@pytest.mark.parametrize("spot", sampled(SPOTS, COVERING), ids=str)
def test_fault(matrix: Matrix, spot: Spot) -> None:
    """State, reason, attempts and requests are the row's; nothing wrong is kept, and nobody else is harmed."""
    run = matrix.run_of(spot)

    assert run.error is None
    check_account(run)
    check_cutout(run)
    check_requests(run)
    check_neighbours(run)
    check_folder(run, matrix.simulator)
    check_audit(run.folder)


def check_account(run: Run) -> None:
    """Every cutout is in one state, and the report says what the manifest says."""
    end, row, report = run.spot.case.end, run.spot.case.row, run.report
    states = Counter(r["state"] for r in rows_of(run.folder))
    found = {name: getattr(report, name) for name in ("done", "missing", "failed", "pending")}

    assert N == report.total == sum(found.values())
    assert states == Counter(found) - Counter()
    assert Counter({"done": N_GOOD}) + Counter({end.state: 1}) == states
    assert ({end.reason: 1} if end.reason else {}) == report.reasons
    assert (0 if end.state == "done" else 3, "", True) == (
        report.exit_status,
        report.stopped,
        report.is_fully_asked,
    )
    may_be = end.retried | row.besides | ({end.reason} if end.attempts > 1 and end.reason else set())
    assert end.retried <= set(report.retried) <= may_be


def check_cutout(run: Run) -> None:
    """The cutout that the fault is about ended as the row says."""
    end, row = run.spot.case.end, run.spot.case.row
    (own,) = [r for r in rows_of(run.folder) if r["uri"] == run.own]

    assert (end.state, end.reason) == (own["state"], own["reason"])
    assert end.attempts <= own["attempts"] <= end.attempts + bool(row.besides)


RESENT_MAX = 5
"""How often a wire repeats one request by itself while kept connections prove dead; none of it is charged."""


def may_resend(run: Run) -> bool:
    """Return True where a wire may send a request again by itself, since a kept connection had died."""
    return run.spot.case.row.may_resend


def check_requests(run: Run) -> None:
    """The archive was asked as often as that takes, and not before it wanted to be."""
    end, row = run.spot.case.end, run.spot.case.row
    expected = end.requests or end.attempts
    resent = RESENT_MAX if may_resend(run) else bool(row.besides)
    times = [seen.at_s for seen in run.seen]

    assert expected <= len(times) <= expected + resent
    if row.waits_s:
        assert min(b - a for a, b in zip(times, times[1:], strict=False)) >= row.waits_s


def check_neighbours(run: Run) -> None:
    """The good cutouts beside it are done."""
    good = [r for r in rows_of(run.folder) if r["uri"] != run.own]

    assert sorted(run.good) == sorted(r["uri"] for r in good)
    assert {"done"} == {r["state"] for r in good}


def check_folder(run: Run, simulator: Simulator) -> None:
    """What is stored is what the archive has, byte for byte, and nothing else is in the folder."""
    done = [r for r in rows_of(run.folder) if r["state"] == "done"]
    truth = {r["uri"]: simulator.render(r["uri"]) for r in done}
    for row in done:
        body = stored_bytes(run.folder, row)
        assert truth[row["uri"]] == body
        assert (len(body), hashlib.sha256(body).hexdigest()) == (row["size_bytes"], row["sha256"])

    places = {r["location"].partition(":")[0] for r in done}
    files = {str(p.relative_to(run.folder)) for p in run.folder.rglob("*") if p.is_file()}
    assert {"manifest.sqlite", ".psfharvest.lock", *places} == files
    if run.spot.sink != "files":
        (place,) = places
        kept = members_of(run.folder / place) if run.spot.sink == "shards" else table_of(run.folder, place)
        assert set(truth.values()) == set(kept)


def members_of(shard: Path) -> list[bytes]:
    """Give every cutout of a shard, claimed or not."""
    with tarfile.open(shard) as tar:
        found = {m.name: m for m in tar.getmembers()}
        assert all(m.isreg() and m.name.endswith((".fits", ".json")) for m in found.values())
        return [tar.extractfile(m).read() for m in tar.getmembers() if m.name.endswith(".fits")]


def table_of(folder: Path, place: str) -> list[bytes]:
    """Give every cutout of a Parquet file, claimed or not."""
    n_rows = pq.ParquetFile(folder / place).metadata.num_rows
    return [parquet_bytes(folder, place, at, {}) for at in range(n_rows)]


def check_audit(folder: Path) -> None:
    """`verify` finds nothing broken and nothing that is nobody's."""
    with Manifest.read(folder) as manifest:
        assert [] == [found for found in audit.audit(folder, manifest, workers=1) if found.problem]
        assert [] == list(audit.strays(folder, manifest))
