"""``adopt`` as a user runs it: lost manifests, the notebook's folders, bundles, kills; then the harvest goes on."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import check_every_file, command, extract_all, rows_of, sampled, stored_bytes
from psfharvest import Harvest, Query, blocking, mast_api_psf
from psfharvest.simulator import Fault, Simulator

PAGE = b"<!DOCTYPE html><html><body><h1>503 Service Unavailable</h1></body></html>"
SINKS = {
    "tree": [],
    "flat": ["--layout", "flat"],
    "shards": ["--sink", "shards"],
    "parquet": ["--sink", "parquet"],
}


def lose_manifest(folder: Path) -> None:
    for path in folder.glob("manifest.sqlite*"):
        path.unlink()


def uris_of(simulator: Simulator, n: int) -> list[str]:
    with blocking.Archive(simulator.url) as archive:
        table = archive.query(Query("UVIS", limit=n))
    return mast_api_psf.make_dataURIs(table, "UVIS", ["flt"])


def write_list(path: Path, uris: list[str]) -> Path:
    path.write_text("".join(f"{uri}\n" for uri in uris))
    return path


@pytest.mark.sample(1)
@pytest.mark.parametrize("sink", sampled(SINKS, ["tree", "parquet"]))
def test_lost_damaged_adopted_and_gone_on(simulator: Simulator, psfharvest, tmp_path: Path, sink: str) -> None:
    """The broken are told with status 3 and fetched by resume; the harvest's own command knows the folder again."""
    archive = ["--archive", simulator.url, "--quiet"]
    words = ["harvest", "d", "--uris", "uris.txt", *SINKS[sink], *archive]
    write_list(tmp_path / "uris.txt", uris_of(simulator, 40))
    assert 0 == psfharvest(*words).status
    row = rows_of(tmp_path / "d")[5]
    path, _, at = row["location"].partition(":")
    if sink == "parquet":
        (tmp_path / "d" / path).write_bytes((tmp_path / "d" / path).read_bytes()[:-9])
    else:
        with (tmp_path / "d" / path).open("r+b") as file:
            file.seek(int(at or 0) + 240)
            file.write(b"NAXIS1  =                   50")
    lose_manifest(tmp_path / "d")

    found = psfharvest("adopt", "d", "--uris", "uris.txt", "--json")

    account = found.account
    assert 3 == found.status, found.err
    assert (40, 1) == (account["total"], account["broken"])
    same = "size_px" if sink == "parquet" else "uri"  # a Parquet file without its end loses all that is in it
    lost = [found_row for found_row in rows_of(tmp_path / "d") if found_row[same] == row[same]]
    assert len(lost) == account["pending"]
    assert account["total"] == sum(account[state] for state in ("done", "missing", "failed", "pending"))
    assert account["bytes"] == sum(r["size_bytes"] or 0 for r in rows_of(tmp_path / "d"))
    assert {"problems", "strays", "reasons", "elapsed_s", "requests"} <= set(account)
    assert "psfharvest resume d fetches them" in found.err
    assert account["pending"] == psfharvest("status", "d", "--json").account["pending"]

    simulator.forget()
    again = psfharvest("resume", "d", *archive, "--json")
    assert (0, 40, account["pending"]) == (again.status, again.account["done"], simulator.count("file"))
    if sink == "parquet":  # the file without its end holds no claim any more, and no reader opens it
        repaired = psfharvest("verify", "d", "--repair", "--json")
        assert (3, 40, 0, [path]) == (repaired.status, *(repaired.account[k] for k in ("ok", "broken", "files")))
    assert 0 == psfharvest("verify", "d").status
    if sink in ("tree", "flat"):
        assert 40 == check_every_file(tmp_path / "d", simulator)
    for done in rows_of(tmp_path / "d"):
        assert simulator.render(done["uri"]) == stored_bytes(tmp_path / "d", done)

    simulator.forget()
    same = psfharvest(*words, "--json")
    assert (0, 40, 0) == (same.status, same.account["total"], simulator.count("any"))
    other = psfharvest("harvest", "d", "IR", "--suffix", "flt", "--limit", "3", *archive)
    assert (2, True) == (other.status, "--extend" in other.err)


@pytest.mark.campaign
def test_a_query_is_added_to_an_adopted_list(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """With --extend, the query that the folder was harvested by finds its cutouts done, and asks for the rest."""
    archive = ["--archive", simulator.url, "--quiet", "--json"]
    assert 0 == psfharvest("harvest", "d", "UVIS", "--limit", "30", "--suffix", "flt", *archive).status
    uris = [row["uri"] for row in rows_of(tmp_path / "d")]
    write_list(tmp_path / "uris.txt", uris)
    lose_manifest(tmp_path / "d")
    assert 0 == psfharvest("adopt", "d", "--uris", "uris.txt").status

    simulator.forget()
    more = psfharvest("harvest", "d", "UVIS", "--limit", "36", "--suffix", "flt", "--extend", *archive)

    assert (0, 36, 6) == (more.status, more.account["done"], simulator.count("file"))
    assert 36 == check_every_file(tmp_path / "d", simulator)


@pytest.fixture
def here(tmp_path: Path, simulator: Simulator) -> Iterator[Path]:
    """A notebook's surroundings: the current folder, and the simulator as the archive."""
    os.environ["PSFHARVEST_ARCHIVE"] = simulator.url
    try:
        with contextlib.chdir(tmp_path):
            yield tmp_path
    finally:
        os.environ.pop("PSFHARVEST_ARCHIVE")


def test_the_notebooks_folder_goes_on(here: Path, simulator: Simulator, psfharvest) -> None:
    """Its own list is found in it; the notebook's same call fetches what is broken, into the same folder."""
    uris = uris_of(simulator, 20)
    place = here / mast_api_psf.download_request_pool(uris)
    folder = place.parent
    names = sorted(path.name for path in place.iterdir())
    (place / names[3]).write_bytes(PAGE)
    (place / names[4]).unlink()
    lose_manifest(folder)

    found = psfharvest("adopt", folder.name, "--json")

    assert (3, 18, 2, {"html_page": 1}) == (
        found.status, found.account["done"], found.account["pending"], found.account["problems"],
    )  # fmt: skip
    simulator.forget()
    assert f"{folder.name}/WFC3PSF" == mast_api_psf.download_request_pool(uris)
    assert 2 == simulator.count("file")
    assert 20 == check_every_file(folder, simulator)
    assert [folder] == list(here.glob("MAST_*"))


def test_what_the_published_module_left_is_adopted_with_a_list(
    here: Path, simulator: Simulator, psfharvest
) -> None:
    """Error pages saved as cutouts are found; without the list the folder is refused and the way out is named."""
    uris = uris_of(simulator, 20)
    place = here / mast_api_psf.download_request_pool(uris)
    folder = place.parent
    lose_manifest(folder)
    for path in folder.glob(".*"):
        path.unlink()
    names = sorted(path.name for path in place.iterdir())
    for name in names[:4]:
        (place / name).write_bytes(PAGE)
    before = sorted(folder.rglob("*"))

    refused = psfharvest("adopt", folder.name)
    assert (2, True) == (refused.status, "--uris FILE" in refused.err)
    assert (2, True) == (psfharvest("adopt", place).status, str(folder) in psfharvest("adopt", place).err)
    assert before == sorted(folder.rglob("*"))

    found = psfharvest("adopt", folder.name, "--uris", write_list(here / "uris.txt", uris), "--json")
    assert (3, 16, {"html_page": 4}) == (found.status, found.account["done"], found.account["problems"])
    simulator.forget()
    again = psfharvest("harvest", folder.name, "--uris", "uris.txt", "--archive", simulator.url, "--json")
    assert (0, 20, 4) == (again.status, again.account["done"], simulator.count("file"))
    assert 20 == check_every_file(folder, simulator)


@pytest.mark.sample(1)
@pytest.mark.parametrize("origin", ["the archive's", "the notebook's"])
def test_an_extracted_bundle_is_adopted_by_its_own_page(
    here: Path, simulator: Simulator, psfharvest, origin: str
) -> None:
    """MANIFEST.HTML has the dataURIs: no list is needed, and the page is no stray; a harvest of them joins in."""
    uris = uris_of(simulator, 20)
    if origin == "the archive's":
        body = urllib.parse.urlencode([("uri", uri) for uri in uris]).encode()
        with urllib.request.urlopen(f"{simulator.url}/api/v0.1/Download/bundle.tar.gz", body) as answer:
            (here / "mastDownload.tar.gz").write_bytes(answer.read())
    else:
        mast_api_psf.download_request_bundle(uris, "mastDownload.tar.gz")
    with tarfile.open("mastDownload.tar.gz") as tar:
        root = tar.getnames()[0]
        extract_all(tar)
    names = sorted(path.name for path in (here / root / "WFC3PSF").iterdir())
    (here / root / "WFC3PSF" / names[0]).write_bytes(PAGE)
    (here / root / "WFC3PSF" / names[1]).unlink()

    found = psfharvest("adopt", root, "--json")

    account = found.account
    assert (3, 20, 18, 1, 0) == (
        found.status, account["total"], account["done"], account["broken"], account["strays"],
    )  # fmt: skip
    simulator.forget()
    words = ["harvest", root, "--uris", write_list(here / "uris.txt", uris), "--archive", simulator.url, "--json"]
    again = psfharvest(*words)
    assert (0, 20, 2) == (again.status, again.account["done"], simulator.count("file"))
    assert 20 == check_every_file(here / root, simulator)


DIES = """
import os, signal, sys
from contextlib import ExitStack
from pathlib import Path
from psfharvest.cli.adopt import _listed
from psfharvest.store.recover.adopt import adopt

def watch(looked):
    os.kill(os.getpid(), signal.SIGKILL)

with ExitStack() as stack:
    adopt(Path("d"), _listed(Path("d"), Path("uris.txt") if sys.argv[1] == "list" else None, stack), watch=watch)
"""


@pytest.mark.campaign
@pytest.mark.parametrize("sink", ["tree", "shards", "parquet"])
def test_killed_in_the_middle(simulator: Simulator, psfharvest, tmp_path: Path, sink: str) -> None:
    """A kill behind the first checkpoint leaves no manifest; the next adopt goes on, and all is counted."""
    words = ["harvest", "d", "UVIS", "--limit", "600", "--suffix", "flt", *SINKS[sink]]
    assert 0 == psfharvest(*words, "--archive", simulator.url, "--quiet").status
    rows = {row["uri"]: (row["state"], row["location"], row["sha256"]) for row in rows_of(tmp_path / "d")}
    lines = ["# a line that asks for nothing"] * 1700  # so that the list is more than one batch
    write_list(tmp_path / "uris.txt", [*list(rows)[:300], *lines, *list(rows)[300:]])
    lose_manifest(tmp_path / "d")

    died = subprocess.run([sys.executable, "-c", DIES, "list" if sink == "tree" else ""], cwd=tmp_path, check=False)
    assert -signal.SIGKILL == died.returncode
    assert (tmp_path / "d/.adopting/manifest.sqlite").exists()
    assert not (tmp_path / "d/manifest.sqlite").exists()
    assert 2 == psfharvest("status", "d").status
    found = psfharvest("adopt", "d", *(["--uris", "uris.txt"] if sink == "tree" else []), "--json")

    assert (0, 600, 0, 0) == (
        found.status, found.account["done"], found.account["broken"], found.account["strays"],
    )  # fmt: skip
    assert rows == {row["uri"]: (row["state"], row["location"], row["sha256"]) for row in rows_of(tmp_path / "d")}
    assert 0 == psfharvest("verify", "d").status
    assert not (tmp_path / "d/.adopting").exists()


@pytest.mark.campaign
def test_kills_at_any_moment(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """Wherever the kills fall, there is no manifest or a whole one, and every cutout stays as it was."""
    draw = random.Random(7)
    words = ["harvest", "d", "UVIS", "--limit", "300", "--suffix", "flt", "--archive", simulator.url, "--quiet"]
    assert 0 == psfharvest(*words).status
    write_list(tmp_path / "uris.txt", [row["uri"] for row in rows_of(tmp_path / "d")])
    lose_manifest(tmp_path / "d")
    manifest = tmp_path / "d/manifest.sqlite"
    for _ in range(8):
        with subprocess.Popen(
            command("adopt", "d", "--uris", "uris.txt"), cwd=tmp_path, stderr=subprocess.DEVNULL
        ) as busy:
            deadline = time.monotonic() + 60
            while not (tmp_path / "d/.adopting").exists() and busy.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.1))
            busy.kill()
        if manifest.exists():
            assert 300 == psfharvest("status", "d", "--json").account["done"]
            lose_manifest(tmp_path / "d")

    assert 0 == psfharvest("adopt", "d", "--uris", "uris.txt").status
    assert 300 == check_every_file(tmp_path / "d", simulator)


@pytest.mark.campaign
def test_an_interrupt_leaves_the_way_on(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """Ctrl-C ends it with status 130 and without a manifest; the same command does it later."""
    words = ["harvest", "d", "IR", "--limit", "30", "--suffix", "flt", "--sink", "shards"]
    words += ["--archive", simulator.url]
    assert 0 == psfharvest(*words).status
    lose_manifest(tmp_path / "d")
    os.mkfifo(tmp_path / "d/shards/000001.tar")  # opening it waits
    with subprocess.Popen(command("adopt", "d"), cwd=tmp_path, stderr=subprocess.DEVNULL) as busy:
        while not (tmp_path / "d/.adopting/manifest.sqlite").exists():
            assert busy.poll() is None
            time.sleep(0.001)
        busy.send_signal(signal.SIGINT)
        assert 130 == busy.wait(timeout=60)

    (tmp_path / "d/shards/000001.tar").unlink()
    assert not (tmp_path / "d/manifest.sqlite").exists()
    assert (0, 30) == ((run := psfharvest("adopt", "d", "--json")).status, run.account["done"])


def test_refusals_have_status_2_and_change_nothing(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """No folder, no cutouts, no such list, a list without dataURIs, a sound manifest."""
    write_list(tmp_path / "junk.txt", ["# nothing"])
    (tmp_path / "empty").mkdir()
    words = ["harvest", "d", "IR", "--limit", "5", "--suffix", "flt", "--archive", simulator.url]
    assert 0 == psfharvest(*words).status
    before = sorted(tmp_path.rglob("*"))

    for words, hint in [
        (["absent"], "is no folder"),
        (["empty"], "holds no cutouts"),
        (["empty", "--uris", "absent.txt"], "absent.txt"),
        (["d", "--uris", "junk.txt"], "holds no dataURI"),
        (["d"], "verify d --repair"),
        ([""], "an empty name"),
    ]:
        run = psfharvest("adopt", *words)
        assert (2, "", True) == (run.status, run.out, hint in run.err), run.err
    assert before == [path for path in sorted(tmp_path.rglob("*")) if path.name[-4:] not in ("-shm", "-wal")]


@pytest.mark.sample(1)
@pytest.mark.parametrize("trouble", ["a file in the way", "a full disk"])
def test_local_trouble_has_status_74_and_loses_nothing(
    simulator: Simulator, psfharvest, tmp_path: Path, trouble: str
) -> None:
    """What cannot be written is told; once it is mended, the same command does it."""
    words = ["harvest", "d", "IR", "--limit", "200", "--suffix", "flt", "--sink", "shards"]
    assert 0 == psfharvest(*words, "--archive", simulator.url, "--quiet").status
    lose_manifest(tmp_path / "d")

    def small_files_only() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    if trouble == "a file in the way":
        (tmp_path / "d/.adopting").write_text("")
    run = subprocess.run(
        command("adopt", "d"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=small_files_only if trouble == "a full disk" else None,
        check=False,
    )
    assert (74, False) == (run.returncode, "Traceback" in run.stderr), run.stderr
    assert not (tmp_path / "d/manifest.sqlite").exists()

    if trouble == "a file in the way":
        (tmp_path / "d/.adopting").unlink()
    assert (0, 200) == ((run := psfharvest("adopt", "d", "--json")).status, run.account["done"])


def test_a_damaged_manifest_is_told_and_kept(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """The user hears where it is now, and the folder is a harvest folder again."""
    words = ["harvest", "d", "IR", "--limit", "5", "--suffix", "flt", "--sink", "shards"]
    words += ["--archive", simulator.url]
    assert 0 == psfharvest(*words).status
    (tmp_path / "d/manifest.sqlite").write_bytes(b"no database" * 1000)
    assert 74 == psfharvest("status", "d").status

    run = psfharvest("adopt", "d")
    assert (0, True) == (run.status, "d/manifest.sqlite-damaged-1" in run.err)
    assert b"no database" * 1000 == (tmp_path / "d/manifest.sqlite-damaged-1").read_bytes()
    assert 5 == psfharvest("status", "d", "--json").account["done"]
    assert 0 == psfharvest("verify", "d").status


def test_progress_goes_to_standard_error(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """With --json, standard output is one object; without it, nothing."""
    words = ["harvest", "d", "IR", "--limit", "5", "--suffix", "flt", "--sink", "shards"]
    words += ["--archive", simulator.url]
    assert 0 == psfharvest(*words).status
    shutil.copytree(tmp_path / "d", tmp_path / "e")
    for name in ("d", "e"):
        lose_manifest(tmp_path / name)

    told, silent = psfharvest("adopt", "d", "--json"), psfharvest("adopt", "e", "--quiet")
    assert 1 == len(told.out.splitlines())
    assert isinstance(json.loads(told.out), dict)
    assert "5 of 5 cutouts in d adopted, 0 broken" in told.err
    assert "" == silent.out


MEASURED = ["id", "psf_flux", "qfit", "chip", "n_sat_pixels"]


def measured(folder: Path) -> dict[str, tuple]:
    """Return what a folder's table has of the catalogue, by dataURI."""
    with Harvest(folder) as stars:
        table = stars.table()
    return {row["uri"]: tuple(row[name] for name in MEASURED if name in table.colnames) for row in table}


@pytest.mark.campaign
@pytest.mark.parametrize("sink", sampled(SINKS, ["tree"]))
def test_the_catalogue_gives_what_a_list_does_not(
    simulator: Simulator, psfharvest, tmp_path: Path, sink: str
) -> None:
    """Adopted with --catalogue, a folder has the flux and qfit that a query's own harvest has; once is enough."""
    archive = ["--archive", simulator.url, "--quiet"]
    words = ["UVIS,IR,WFPC2", "--limit", "30", "--suffix", "flt,c0m", *archive]
    assert 0 == psfharvest("harvest", "asked", *words).status
    expected = measured(tmp_path / "asked")
    write_list(tmp_path / "uris.txt", sorted(expected))
    assert 0 == psfharvest("harvest", "d", "--uris", "uris.txt", *SINKS[sink], *archive).status
    lose_manifest(tmp_path / "d")

    found = psfharvest("adopt", "d", "--uris", "uris.txt", "--catalogue", "--json", *archive)
    simulator.forget()
    again = psfharvest("adopt", "d", "--catalogue", "--json", *archive)

    assert (0, 0) == (found.status, again.status), found.err + again.err
    assert (90, 90, 0) == (found.account["done"], found.account["rows"], found.account["rows_unknown"])
    assert "90 cutouts have got their catalogue rows" in found.err
    assert (90, 0) == (again.account["done"], again.account["rows"])
    assert not simulator.requests
    assert expected == measured(tmp_path / "d")
    assert 0 == psfharvest("verify", "d", "--quiet").status


@pytest.mark.campaign
def test_the_catalogue_is_asked_on_where_it_was_cut_off(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """The archive goes down between two questions: 75, what came is kept, the same command asks for the rest."""
    archive = ["--archive", simulator.url, "--quiet"]
    write_list(tmp_path / "uris.txt", uris_of(simulator, 1200))
    assert 0 == psfharvest("harvest", "d", "--uris", "uris.txt", *archive).status
    words = ["adopt", "d", "--catalogue", "--json", "--patience", "1", *archive]
    simulator.forget()
    simulator.faults = [Fault("outage", start=4, service="query")]

    cut = psfharvest(*words)
    simulator.faults = []
    rest = psfharvest(*words)

    assert (75, 0) == (cut.status, rest.status), cut.err + rest.err
    assert 0 < rest.account["rows"] < 1200
    with Harvest(tmp_path / "d") as stars:
        assert 1200 == len(stars.select(psf_flux=(0, None)))


def test_sources_that_the_archive_does_not_have(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """A dataURI whose id or exposure is in no catalogue, and another file, keep what they have, and are counted."""
    archive = ["--archive", simulator.url, "--quiet"]
    right, other, *_ = uris_of(simulator, 2)
    wrong = re.sub(r"_\d+_F", "_123456789_F", other)
    write_list(tmp_path / "uris.txt", [right, wrong, "mast:HST/product/ibc302ioq_flt.fits"])
    psfharvest("harvest", "d", "--uris", "uris.txt", *archive)

    found = psfharvest("adopt", "d", "--catalogue", "--json", *archive)

    assert (1, 1) == (found.account["rows"], found.account["rows_unknown"]), found.err
    assert "none that fits 1" in found.err


def test_without_the_option_nothing_is_asked(simulator: Simulator, psfharvest, tmp_path: Path) -> None:
    """A sound manifest is refused as before, and an adoption sends no request."""
    archive = ["--archive", simulator.url, "--quiet"]
    write_list(tmp_path / "uris.txt", uris_of(simulator, 3))
    assert 0 == psfharvest("harvest", "d", "--uris", "uris.txt", *archive).status
    assert 2 == psfharvest("adopt", "d").status
    lose_manifest(tmp_path / "d")
    simulator.forget()

    assert 0 == psfharvest("adopt", "d", "--uris", "uris.txt", *archive).status
    assert not simulator.requests
