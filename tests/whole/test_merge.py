"""``merge`` and ``convert`` as a user runs them: folders of two machines become one, and the harvest goes on."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness import check_every_file, command, rows_of, stored_bytes
from psfharvest import Harvest, Query, blocking
from psfharvest.cli import cli
from psfharvest.core.errors import PsfharvestError
from psfharvest.simulator import Fault, Simulator
from psfharvest.store.lock import folder_lock
from standard_readers import every_file_opens

KINDS = {
    "tree": ("files", "tree"),
    "flat": ("files", "flat"),
    "shards": ("shards", None),
    "parquet": ("parquet", None),
}
FIRST = Query("UVIS", filter="F606W", limit=15)
SECOND = Query("UVIS", limit=25)
FIRST_WORDS = ["UVIS", "filter=F606W", "--limit", "15", "--suffix", "flc"]
SECOND_WORDS = ["UVIS", "--limit", "25", "--suffix", "flc,raw"]


def broken(code: int, seed: int) -> Fault:
    return Fault("status", code=code, rate=0.2, seed=seed, service="file")


def states(folder: Path) -> dict[str, str]:
    return {row["uri"]: row["state"] for row in rows_of(folder)}


def contents(folder: Path) -> dict[str, Any]:
    """Return what a folder knows of each cutout, apart from where it is."""
    rows = rows_of(folder)
    found = {row["uri"]: (row["state"], row["size_bytes"], row["sha256"], row["reason"]) for row in rows}
    assert len(found) == len(rows)
    return found


def runs_of(folder: Path) -> list[tuple]:
    with sqlite3.connect(folder / "manifest.sqlite") as db:
        rows = db.execute("SELECT started_at, elapsed_s, requests, stopped FROM run ORDER BY n").fetchall()
    db.close()
    return rows


def check(folder: Path, simulator: Simulator, psfharvest) -> int:
    """Hold a folder against the archive, our own verification, and the readers of its users."""
    found = psfharvest("verify", folder, "--json", "--quiet")
    assert (0, 0) == (found.account["broken"], found.account["strays"]), found.err
    assert 0 == found.status
    done = [row for row in rows_of(folder) if row["state"] == "done"]
    for row in done:
        assert simulator.render(row["uri"]) == stored_bytes(folder, row)
    if (folder / "shards").exists() or (folder / "parquet").exists():
        assert len(done) == every_file_opens(folder)
    else:
        check_every_file(folder, simulator)
    assert len(done) == len(Harvest(folder).table())
    return len(done)


class Done(NamedTuple):
    """What a command gave."""

    status: int
    out: str
    err: str

    @property
    def account(self) -> dict[str, Any]:
        """The last line of standard output, read as JSON."""
        return json.loads(self.out.splitlines()[-1])


@pytest.fixture
def psfharvest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Run the command within this process, which takes a tenth of the time."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path) -> Done:
        capfd.readouterr()
        try:
            status = cli.main([str(word) for word in words], standalone_mode=False) or 0
        except PsfharvestError as error:
            sys.stderr.write(f"psfharvest: {error}\n")
            status = error.exit_status
        sys.stdout.flush()
        return Done(status, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def made(_shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two overlapping queries, harvested into folders ``a`` and ``b``, for each way to store."""
    base = tmp_path_factory.mktemp("made")
    with blocking.Archive(_shared_simulator.url) as archive:
        for kind, (sink, layout) in KINDS.items():
            archive.harvest(FIRST, base / kind / "a", suffixes=["flc"], sink=sink, layout=layout)
            archive.harvest(SECOND, base / kind / "b", suffixes=["flc", "raw"], sink=sink, layout=layout)
    return {kind: base / kind for kind in KINDS}


@pytest.fixture
def harvested(made: dict[str, Path], simulator: Simulator, tmp_path: Path):
    """Put the folders ``a`` and ``b`` where the test runs, and return what they hold."""
    del simulator

    def put(kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
        for name in "ab":
            shutil.copytree(made[kind] / name, tmp_path / name)
        return contents(tmp_path / "a"), contents(tmp_path / "b")

    return put


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", KINDS)
def test_two_folders_become_one(harvested, simulator: Simulator, psfharvest, tmp_path: Path, kind: str) -> None:
    """Everything counts once; either harvest is recognised and sends no request for a cutout."""
    a, b = harvested(kind)
    before = {name: sorted(p.stat().st_mtime_ns for p in (tmp_path / name).rglob("[!.]*.*")) for name in "ab"}
    assert a.keys() & b.keys()
    simulator.forget()

    merged = psfharvest("merge", "a", "b", "c", "--json", "--quiet")

    assert 0 == merged.status, merged.err
    assert not simulator.requests
    assert a | b == contents(tmp_path / "c")
    account = merged.account
    assert (len(a | b), len(a | b)) == (account["total"], account["done"])
    assert sum(size for _, size, *_ in (a | b).values()) == account["bytes"]
    assert sorted(runs_of(tmp_path / "a") + runs_of(tmp_path / "b")) == sorted(runs_of(tmp_path / "c"))
    assert account["requests"] == sum(run[2] for run in runs_of(tmp_path / "c"))
    assert len(a | b) == check(tmp_path / "c", simulator, psfharvest)
    assert before == {
        name: sorted(p.stat().st_mtime_ns for p in (tmp_path / name).rglob("[!.]*.*")) for name in "ab"
    }
    assert (a, b) == (contents(tmp_path / "a"), contents(tmp_path / "b"))
    for words in (FIRST_WORDS, SECOND_WORDS):
        again = psfharvest("harvest", "c", *words, "--archive", simulator.url, "--json", "--quiet")
        assert (0, len(a | b)) == (again.status, again.account["done"]), again.err
    assert not simulator.requests


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", KINDS)
def test_into_a_harvest_folder_and_again(
    harvested, simulator: Simulator, psfharvest, tmp_path: Path, kind: str
) -> None:
    """The target may be a harvest itself; the same command once more changes nothing, and sinks go on behind."""
    a, b = harvested(kind)

    first = psfharvest("merge", "a", "b", "--json", "--quiet")
    second = psfharvest("merge", "a", "b", "--json", "--quiet")

    assert (0, 0) == (first.status, second.status), first.err + second.err
    assert first.account == second.account
    assert a | b == contents(tmp_path / "b")
    check(tmp_path / "b", simulator, psfharvest)
    more = ["UVIS", "--limit", "30", "--suffix", "flt", "--archive", simulator.url, "--quiet"]
    assert 0 == psfharvest("harvest", "b", *more, "--extend").status
    assert len(a | b) + 30 == check(tmp_path / "b", simulator, psfharvest)


@pytest.mark.sample(1)
@pytest.mark.parametrize("sink", ["files", "shards", "parquet"])
@pytest.mark.parametrize("kind", KINDS)
def test_convert(harvested, simulator: Simulator, psfharvest, tmp_path: Path, kind: str, sink: str) -> None:
    """Another sink, the same cutouts, catalogue, account and history; the harvest's command knows the folder."""
    _, b = harvested(kind)
    table = Harvest(tmp_path / "b").table()
    simulator.forget()

    converted = psfharvest("convert", "b", "out", "--sink", sink, "--json", "--quiet")
    again = psfharvest("convert", "b", "out", "--sink", sink, "--json", "--quiet")

    assert 0 == converted.status, converted.err
    assert converted.account == again.account, again.err
    assert b == contents(tmp_path / "out")
    assert len(b) == check(tmp_path / "out", simulator, psfharvest)
    assert runs_of(tmp_path / "b") == runs_of(tmp_path / "out")
    made = Harvest(tmp_path / "out").table()
    assert table.colnames == made.colnames
    assert table["uri", "id", "psf_flux"].pformat(-1) == made["uri", "id", "psf_flux"].pformat(-1)
    known = psfharvest("harvest", "out", *SECOND_WORDS, "--archive", simulator.url, "--json", "--quiet")
    assert (0, len(b)) == (known.status, known.account["done"])
    assert not simulator.requests


def test_states_and_what_is_done_about_them(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """Missing and failed are kept, the better of two states wins, and resume asks for what failed again."""
    archive = ["--archive", simulator.url, "--json", "--quiet", "--attempts", "1", "--patience", "5"]
    simulator.faults = [broken(404, 1), broken(500, 2), broken(500, 5)]
    a = psfharvest("harvest", "a", *SECOND_WORDS, *archive, "--via", "file")
    simulator.faults = [broken(404, 1), broken(500, 2), broken(404, 3)]
    b = psfharvest("harvest", "b", *SECOND_WORDS, *archive, "--via", "file")
    simulator.faults = []
    ranks = ["pending", "failed", "missing", "done"]
    own = [states(tmp_path / name) for name in "ab"]
    best = {uri: max((of[uri] for of in own), key=ranks.index) for uri in own[0]}
    assert (3, 3) == (a.status, b.status)

    merged = psfharvest("merge", "a", "b", "c", "--json", "--quiet")

    assert best == states(tmp_path / "c")
    account = merged.account
    assert account["total"] == account["done"] + account["missing"] + account["failed"] == len(best)
    assert {"missing", "failed"} <= set(best.values())
    assert 3 == merged.status
    after = psfharvest("resume", "c", "--retry", "failed", *archive)
    assert (account["missing"], 0) == (after.account["missing"], after.account["failed"])
    check(tmp_path / "c", simulator, psfharvest)


def test_pending_work_is_refused_unless_wanted(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """A folder that is not finished is merged with --partial only; then its work is pending in the merged one."""
    archive = ["--archive", simulator.url, "--json", "--quiet", "--patience", "0"]
    assert 0 == psfharvest("harvest", "a", *FIRST_WORDS, *archive).status
    simulator.faults = [Fault("outage", start=20)]
    assert 75 == psfharvest("harvest", "b", *SECOND_WORDS, *archive, "--via", "file").status
    simulator.faults = []

    refused = psfharvest("merge", "a", "b", "c")
    assert 2 == refused.status
    assert "psfharvest resume b" in refused.err
    assert "--partial" in refused.err
    assert not (tmp_path / "c").exists()
    merged = psfharvest("merge", "a", "b", "c", "--partial", "--json", "--quiet")

    assert 75 == merged.status
    assert merged.account["pending"] > 0
    assert merged.account["done"] == check(tmp_path / "c", simulator, psfharvest)
    assert 0 == psfharvest("harvest", "c", *SECOND_WORDS, *archive).status
    check(tmp_path / "c", simulator, psfharvest)


@pytest.mark.campaign
def test_one_name_for_two_cutouts(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """Two sizes of one source bear one file name: merged, both are there under names of their own."""
    for kind, (sink, layout) in KINDS.items():
        home = tmp_path / kind
        home.mkdir()
        archive = ["--archive", simulator.url, "--quiet", "--sink", sink, *(["--layout", layout] if layout else [])]
        assert 0 == psfharvest("harvest", f"{kind}/a", *FIRST_WORDS, *archive).status
        assert 0 == psfharvest("harvest", f"{kind}/b", *FIRST_WORDS, "--unsat-size", "41", *archive).status

        assert 0 == psfharvest("merge", f"{kind}/a", f"{kind}/b", f"{kind}/c", "--quiet").status

        expected = len(contents(home / "a") | contents(home / "b"))
        assert 15 < expected == check(home / "c", simulator, psfharvest)
        locations = [row["location"] for row in rows_of(home / "c")]
        assert len(locations) == len(set(locations))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_are_not_carried_on(
    harvested, simulator: Simulator, psfharvest, tmp_path: Path, kind: str
) -> None:
    """A cutout that is not as recorded becomes pending in the converted folder, and the source stays as it is."""
    a, _ = harvested(kind)
    path, _, at = rows_of(tmp_path / "a")[4]["location"].partition(":")
    with (tmp_path / "a" / path).open("r+b") as file:
        file.seek(int(at or 0) + 9000 if kind != "parquet" else 9000)
        file.write(b"\x55\xaa\x55\xaa")

    converted = psfharvest("convert", "a", "out", "--sink", "files", "--json")

    assert 75 == converted.status
    assert converted.account["pending"] >= 1
    assert len(a) == converted.account["total"]
    assert "not as recorded" in converted.err
    assert 0 == psfharvest("resume", "out", "--archive", simulator.url, "--quiet").status
    assert len(a) == check(tmp_path / "out", simulator, psfharvest)


def test_damaged_bytes_that_another_folder_has_whole(harvested, psfharvest, tmp_path: Path) -> None:
    """Nothing is pending then, and nothing is said to be."""
    harvested("tree")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    (tmp_path / "a" / rows_of(tmp_path / "a")[4]["location"]).write_bytes(b"")

    merged = psfharvest("merge", "a", "copy", "new", "--json")

    assert (0, 0) == (merged.status, merged.account["pending"])
    assert "not as recorded" in merged.err
    assert "pending" not in merged.err


@pytest.mark.parametrize("words", [("merge", "NAME/a", "NAME/b", "NAME/c"), ("convert", "NAME/a", "NAME/c")])
def test_names_that_are_no_text(harvested, tmp_path: Path, words: tuple[str, ...]) -> None:
    """A folder whose name is no UTF-8, or holds what a URI or a pattern is made of, is one like all others."""
    harvested("tree")
    for name in (b"\xff\xfe", b"%41 ?#&;*[0]\n"):
        place = tmp_path / os.fsdecode(name)
        place.mkdir()
        for folder in ("a", "b"):
            shutil.copytree(tmp_path / folder, place / folder)
        given = [word.replace("NAME", str(place)) for word in words]
        sink = ["--sink", "shards"] if words[0] == "convert" else []
        done = subprocess.run(command(*given, *sink, "--json"), capture_output=True, check=False)

        assert 0 == done.returncode, done.stderr
        assert states(place / "c").keys() >= states(place / "a").keys()


def test_a_folder_that_is_being_harvested(harvested, psfharvest, tmp_path: Path) -> None:
    """Is refused before anything is made of it."""
    harvested("tree")
    before = sorted(tmp_path.iterdir())
    with folder_lock(tmp_path / "b"):
        for words in (("merge", "a", "b", "new"), ("convert", "b", "new", "--sink", "shards")):
            refused = psfharvest(*words)
            assert (2, True) == (refused.status, "is being harvested" in refused.err)
    assert before == sorted(tmp_path.iterdir())


def test_bad_input_changes_nothing(harvested, psfharvest, tmp_path: Path) -> None:
    """Whatever cannot be carried out is refused with status 2, and no folder is made."""
    harvested("tree")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    assert 0 == psfharvest("convert", "a", "shards", "--sink", "shards", "--quiet").status
    refusals = {
        ("merge", "a", "a", "new"): "given twice",
        ("merge", "a", "b", "a"): "given twice",
        ("merge", "a", "absent", "new"): "no harvest folder",
        ("merge", "a", "shards", "new"): "psfharvest convert",
        ("convert", "a", "b", "--sink", "files"): "another harvest",
        ("convert", "a", "new", "--sink", "shards", "--layout", "flat"): "layout",
    }
    for words, said in refusals.items():
        refused = psfharvest(*words)
        assert 2 == refused.status, words
        assert said in refused.err, refused.err
        assert not (tmp_path / "new").exists()
    before = sorted(tmp_path.rglob("[!.]*.fits"))
    assert 0 == psfharvest("merge", "a", "copy", "--quiet").status  # a copy of a folder adds nothing
    assert before == sorted(tmp_path.rglob("[!.]*.fits"))
    assert runs_of(tmp_path / "a") == runs_of(tmp_path / "copy")


def test_links_where_there_can_be(harvested, psfharvest, tmp_path: Path) -> None:
    """Files of one file system take their room once."""
    harvested("tree")

    assert 0 == psfharvest("merge", "a", "b", "c", "--quiet").status

    assert {2, 3} >= {path.stat().st_nlink for path in (tmp_path / "c").rglob("*.fits")}


def test_a_source_that_may_only_be_read(harvested, simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """A folder on a read-only medium is merged, too."""
    a, b = harvested("tree")
    for path in (tmp_path / "a").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    (tmp_path / "a").chmod(0o555)

    merged = psfharvest("merge", "a", "b", "c", "--quiet")

    (tmp_path / "a").chmod(0o755)
    assert 0 == merged.status, merged.err
    assert a | b == contents(tmp_path / "c")
