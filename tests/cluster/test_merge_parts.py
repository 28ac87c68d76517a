"""Parts of a harvest become one ordinary folder, which is whole at whatever instant their merge is killed."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from parts_made import QUERY, make_parts, states_of

from psfharvest import FolderRefused, Harvest, RetryPolicy, blocking
from psfharvest.core.exit_status import ExitStatus
from psfharvest.simulator import Fault, Settings, Simulator
from psfharvest.store import parts as in_parts
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.manifest.place import MOVED_NAME
from psfharvest.store.merge import result
from psfharvest.store.merge_parts import merge_parts
from psfharvest.store.moves import Moves
from psfharvest.store.parts import Planning
from psfharvest.store.recover.verification import verify

KILLER = """
import errno, os, signal, sys
from pathlib import Path
from psfharvest.store.merge_parts import merge_parts

at, has_links, folder = int(sys.argv[1]), sys.argv[2] == "True", Path(sys.argv[3])
NAMES = {"link", "rename", "replace", "unlink", "mkdir", "rmdir", "fsync", "execute", "executemany", "close",
         "write"}
n = n_before_commit = 0

if not has_links:
    def link(*paths):
        raise PermissionError(errno.EPERM, "no links here")
    os.link = link

def hook(frame, event, function):
    global n, n_before_commit
    if event in ("c_call", "c_return") and function.__name__ in NAMES:
        n += 1
        if not (folder / "manifest.sqlite").exists():
            n_before_commit = n
        if n == at:
            os.kill(os.getpid(), signal.SIGKILL)

steps = merge_parts(folder)
sys.setprofile(hook)
for _ in steps:
    pass
sys.setprofile(None)
print(n, n_before_commit)
"""
"""Merges in a process of its own, which dies at a given one of the calls that touch disk and manifest."""

States = dict[str, tuple[str, str | None]]


class Points(NamedTuple):
    """How many points a merge passed: all, and those before its commit."""

    n: int
    n_before_commit: int


def live(folder: Path, at: int, *, has_links: bool) -> Points | None:
    words = [sys.executable, "-c", KILLER, str(at), str(has_links), str(folder)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode in (0, -9), ended.stderr
    return Points(*map(int, ended.stdout.split())) if ended.returncode == 0 else None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all parts of `QUERY`, harvested into shards."""
    folder = tmp_path_factory.mktemp("made") / "stars"
    with Simulator(Settings(sources=2000)) as simulator:
        assert len(make_parts(simulator.url, folder)) > 2
    return folder


def die_at_points(made: Path, home: Path, *, has_links: bool, n_kills: int, seed: int) -> None:
    """Kill merges at random points: the folder is either unmerged and whole, or merged and whole."""
    draw = random.Random(seed)
    shutil.copytree(made, home / "counted")
    points = live(home / "counted", 0, has_links=has_links)
    assert points is not None
    expected = states_of(home / "counted")
    for k in range(n_kills):
        folder = home / str(k)
        shutil.copytree(made, folder)
        for _ in range(1 + k % 3):
            live(folder, draw.randint(1, points.n), has_links=has_links)
            if (folder / "manifest.sqlite").exists():
                check_merged(folder, expected)
            else:
                assert 90 == in_parts.summed(folder).done
        assert live(folder, 0, has_links=has_links) is not None
        check_without_parts(folder, expected)
        shutil.rmtree(folder)


def check_merged(folder: Path, expected: States) -> None:
    """All cutouts are there, whether or not parts are left."""
    assert expected == states_of(folder)
    checked = verify(folder)
    assert (90, 0) == (checked.checked, checked.broken)


def check_without_parts(folder: Path, expected: States) -> None:
    check_merged(folder, expected)
    assert 0 == verify(folder).strays
    names = {path.name for path in folder.iterdir()} - {"manifest.sqlite-wal", "manifest.sqlite-shm"}
    assert {"plan.json", "shards", "manifest.sqlite", ".psfharvest.lock"} == names


@pytest.mark.sample(1)
@pytest.mark.parametrize("has_links", [True, False])
def test_killed_after_the_commit(made: Path, tmp_path: Path, has_links: bool) -> None:
    """It is merged and whole, also while parts are removed, twice; the same command again removes the rest."""
    shutil.copytree(made, tmp_path / "counted")
    points = live(tmp_path / "counted", 0, has_links=has_links)
    assert points is not None
    n_after = points.n - points.n_before_commit
    expected = states_of(tmp_path / "counted")
    for k, at in enumerate([1, n_after // 2]):
        folder = tmp_path / str(k)
        shutil.copytree(made, folder)
        assert live(folder, points.n_before_commit + at, has_links=has_links) is None
        for _ in range(2):
            assert (folder / "parts").exists()
            check_merged(folder, expected)
            live(folder, 8, has_links=has_links)  # it looks around, then dies among the parts
        assert live(folder, 0, has_links=has_links) is not None
        check_without_parts(folder, expected)


@pytest.mark.campaign
@pytest.mark.sample(1)
@pytest.mark.parametrize("has_links", [True, False])
def test_killed_at_some_points(made: Path, tmp_path: Path, has_links: bool) -> None:
    """With hard links, and where files are moved instead."""
    die_at_points(made, tmp_path, has_links=has_links, n_kills=1, seed=int(has_links))


@pytest.mark.campaign
@pytest.mark.parametrize("has_links", [True, False])
def test_killed_at_many_points(made: Path, tmp_path: Path, has_links: bool) -> None:
    """The same with forty deaths."""
    die_at_points(made, tmp_path, has_links=has_links, n_kills=40, seed=random.randrange(2**32))


def test_the_account_holds_what_the_plan_took(made: Path, tmp_path: Path) -> None:
    """Before the merge and after it, as a run that was the first of all."""
    folder = shutil.copytree(made, tmp_path / "stars")
    plan = in_parts.read_plan(folder)
    assert plan is not None
    parts_alone = in_parts.summed(folder)
    replace(plan, planning=Planning("2026-01-01T00:00:00.000Z", 2.5, 17)).write(folder)
    before = in_parts.summed(folder)
    assert (parts_alone.requests + 17, parts_alone.elapsed_s + 2.5) == (before.requests, before.elapsed_s)

    list(merge_parts(folder))
    after = result(folder)
    assert (before.requests, 90, "") == (after.requests, after.done, after.stopped)
    assert before.elapsed_s == pytest.approx(after.elapsed_s)
    with Manifest.read(folder) as manifest:
        assert ("2026-01-01T00:00:00.000Z", 17) == tuple(manifest.runs()[0][k] for k in ("started_at", "requests"))


def test_an_unmerged_folder_says_what_to_do(made: Path, tmp_path: Path, psfharvest) -> None:
    """`status` sums its parts; whatever needs the whole names the command that merges it."""
    folder = tmp_path / "stars"
    shutil.copytree(made, folder)
    words = f"run: psfharvest merge {folder}"

    with pytest.raises(FolderRefused, match=words):
        Harvest(folder)
    for one in (
        ["verify", folder],
        ["resume", folder],
        ["adopt", folder],
        ["harvest", folder, "IR", "--suffix", "flt"],
    ):
        run = psfharvest(*one)
        assert (2, True) == (run.status, words in run.err), run.err
    status = psfharvest("status", folder, "--json")
    assert (0, 90, 90) == (status.status, status.account["total"], status.account["done"])
    assert not (folder / "manifest.sqlite").exists()

    merged = psfharvest("merge", folder, "--json")
    assert (0, 90) == (merged.status, merged.account["done"])
    again = psfharvest("merge", folder, "--json")
    assert (merged.status, merged.account) == (again.status, again.account)
    assert 90 == len(Harvest(folder).table())


@pytest.mark.parametrize("words", [["merge"], ["convert", "--sink", "files"]])
def test_parts_are_no_target_of_other_folders(made: Path, tmp_path: Path, psfharvest, words: list[str]) -> None:
    """A manifest beside unmerged parts would hide them, and the merge of the parts would then delete them."""
    folder, other = tmp_path / "stars", tmp_path / "other"
    shutil.copytree(made, folder)
    shutil.copytree(made / "parts" / "000000", other)

    run = psfharvest(words[0], other, folder, *words[1:])

    assert (2, True) == (run.status, f"run: psfharvest merge {folder}" in run.err), run.err
    assert not (folder / "manifest.sqlite").exists()
    assert (0, 90) == ((merged := psfharvest("merge", folder, "--json")).status, merged.account["done"])


def test_a_damaged_plan_is_told_with_a_way_to_keep_the_parts(made: Path, tmp_path: Path, psfharvest) -> None:
    """The command of the message makes an ordinary folder of all that was harvested."""
    folder, into = tmp_path / "stars", tmp_path / "into"
    shutil.copytree(made, folder)
    (folder / "plan.json").write_text("{")

    run = psfharvest("merge", folder)
    assert (74, True) == (run.status, f"merge --partial {folder}/parts/[0-9]* INTO" in run.err), run.err
    parts = sorted((folder / "parts").glob("[0-9]*"))
    merged = psfharvest("merge", "--partial", *parts, into, "--json")

    assert (0, 90) == (merged.status, merged.account["done"])
    assert {"done"} == {state for state, _ in states_of(into).values()}


def test_a_move_is_noted_behind_a_torn_line(tmp_path: Path) -> None:
    """What a full disk left of a note is no beginning of the next one, which a later merge takes back."""
    parts = tmp_path / "parts"
    parts.mkdir()
    for number in (1, 2):
        (parts / f"{number:06d}.tar").write_text(str(number))
    Moves(tmp_path).move(parts / "000001.tar", tmp_path / "000001.tar")
    with (parts / MOVED_NAME).open("a") as note:
        note.write('["parts/0000')

    Moves(tmp_path).undo(2)
    Moves(tmp_path).move(parts / "000002.tar", tmp_path / "000002.tar")
    Moves(tmp_path).undo(1)

    assert ["000001.tar", "000002.tar", MOVED_NAME] == sorted(path.name for path in parts.iterdir())


def test_parts_with_work_left_are_refused_unless_partial(simulator: Simulator, tmp_path: Path) -> None:
    """Merged all the same, the folder knows its command and has the rest pending."""
    folder = tmp_path / "stars"
    parts = make_parts(simulator.url, folder, n_harvested=1)
    with pytest.raises(FolderRefused, match="parts have not begun"):
        merge_parts(folder)
    assert 75 == in_parts.summed(folder).exit_status

    list(merge_parts(folder, is_partial=True))

    assert (ExitStatus.PENDING, parts[0].n) == (result(folder).exit_status, result(folder).done)
    with blocking.Archive(simulator.url) as archive:
        report = archive.harvest(QUERY, folder, suffixes=["flc"])
    assert (0, 90) == (report.exit_status, report.done)


@pytest.mark.sample(1)
@pytest.mark.parametrize("sink", ["shards", "parquet"])
def test_a_merged_folder_is_an_ordinary_one(simulator: Simulator, tmp_path: Path, sink: str) -> None:
    """The same command asks for nothing; what it holds is what a local harvest of the query holds."""
    folder = tmp_path / "stars"
    make_parts(simulator.url, folder, sink=sink)
    list(merge_parts(folder))

    with blocking.Archive(simulator.url) as archive:
        simulator.forget()
        report = archive.harvest(QUERY, folder, suffixes=["flc"])
        assert (0, 90, 0) == (report.exit_status, report.done, report.requests)
        assert not simulator.requests
        archive.harvest(QUERY, tmp_path / "local", suffixes=["flc"])
    assert states_of(tmp_path / "local") == states_of(folder)
    assert (90, 0, 0) == (verify(folder).checked, verify(folder).broken, verify(folder).strays)


def test_a_parts_manifest_maps_no_shared_memory(simulator: Simulator, tmp_path: Path) -> None:
    """While it is written there is no -shm file, and a reader sees what is claimed; at rest it has no journal."""
    from psfharvest.store.folder import Settings as Kept
    from psfharvest.store.folder import new_folder
    from psfharvest.store.manifest.manifest import Manifest

    folder = tmp_path / "part"
    with new_folder(folder, Kept("shards", is_part=True)) as manifest:
        with manifest.transaction():
            manifest.set(shard=7)
        assert {".psfharvest.lock", "manifest.sqlite", "manifest.sqlite-wal"} == {p.name for p in folder.iterdir()}
        with Manifest.read(folder) as seen:
            assert 7 == seen.setting("shard")
    assert {".psfharvest.lock", "manifest.sqlite"} == {p.name for p in folder.iterdir()}
    with Manifest.read(folder) as seen:
        assert 7 == seen.setting("shard")
    assert {".psfharvest.lock", "manifest.sqlite"} == {p.name for p in folder.iterdir()}


def test_a_part_that_was_only_made_is_not_finished(simulator: Simulator, tmp_path: Path) -> None:
    """A worker may die between the making of a manifest and the first record of what it is asked for."""
    from psfharvest.store.folder import Settings as Kept
    from psfharvest.store.folder import new_folder

    folder = tmp_path / "stars"
    parts = make_parts(simulator.url, folder, n_harvested=2)
    for n in range(2, len(parts)):
        with new_folder(in_parts.folder_of(folder, n), Kept("shards", is_part=True)):
            pass

    assert [True, True, False] == [in_parts.is_finished(in_parts.folder_of(folder, n)) for n in range(3)]
    with pytest.raises(FolderRefused, match="000002 has pending work"):
        merge_parts(folder)


@pytest.mark.campaign
def test_failed_cutouts_of_a_merged_folder_get_fresh_attempts(
    simulator: Simulator, tmp_path: Path, psfharvest
) -> None:
    """`resume --retry failed` asks for them alone, and for the missing ones only when they are named."""
    folder = tmp_path / "stars"
    simulator.faults = [
        Fault("status", code=404, service="file", every=10),
        Fault("status", code=500, service="file", rate=0.1),
    ]
    make_parts(simulator.url, folder, retry=RetryPolicy(attempts=2, first_delay_s=0.01))
    list(merge_parts(folder))
    before = result(folder)
    assert before.missing
    assert before.failed

    simulator.faults = []
    simulator.forget()
    env = {"PSFHARVEST_ARCHIVE": simulator.url}
    run = psfharvest("resume", folder, "--retry", "failed", "--via", "file", "--json", env=env)

    assert before.failed == simulator.count("file")
    assert (3, 90 - before.missing, before.missing, 0) == (
        run.status, run.account["done"], run.account["missing"], run.account["failed"],
    )  # fmt: skip
    run = psfharvest("resume", folder, "--retry", "failed,missing", "--via", "file", "--json", env=env)
    assert (0, 90) == (run.status, run.account["done"])
    assert before.failed + before.missing == simulator.count("file")
    assert (90, 0, 0) == (verify(folder).checked, verify(folder).broken, verify(folder).strays)
