"""
The clients: this project and its peers, each as it is best used, by its public command.

The law: a client gets a list of cutouts and an empty folder, and everything it needs is written before its clock
starts. Those that are not installed are named as absent, never left out silently.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import asks, machine
from benchmarks.server import Server

CLIENTS = Path(__file__).parent / "clients"
BUNDLE_SIZE = 1_000


@dataclass(frozen=True, slots=True)
class Job:
    """What one run of a client is to do: download `n` cutouts into `out`, with inputs in `desk`."""

    server: Server
    n: int
    connections: int
    out: Path
    desk: Path


@dataclass(frozen=True, slots=True)
class Client:
    """
    One way to download.

    Parameters
    ----------
    name
        What tables call it.
    version
        None where it is not installed.
    command
        Writes what the client needs and returns its command line.
    per_s
        Cutouts a second that one core may be expected to manage: it decides how many are asked for, nothing else.
    stored
        Counts what it stored; given the size of a body where that is known.
    """

    name: str
    version: str | None
    command: Callable[[Job], list[str]]
    per_s: float
    stored: Callable[[Job, int | None], int]


def everyone(python: str) -> list[Client]:
    """
    Return all clients that download one cutout a request, installed or not.

    Parameters
    ----------
    python
        The interpreter that has the peers written in Python.
    """
    return [
        Client("psfharvest, shards", _own_version(), _ours("shards"), 16_000, in_manifest),
        Client("psfharvest, files", _own_version(), _ours("files"), 9_000, in_manifest_and_files),
        Client("curl --parallel", _version("curl", "--version", word=1), _curl, 10_000, as_files),
        Client("curl, sha256sum, check", _version("curl", "--version", word=1), _curl_and_check, 5_000, as_files),
        Client("wget2", _version("wget2", "--version", word=2), _wget2, 7_000, as_files),
        Client("aria2c", _version("aria2c", "--version", word=2), _aria2c, 4_500, as_files),
        Client("aiohttp", _module(python, "aiohttp"), _script(python, "with_aiohttp.py"), 5_000, as_files),
        Client("parfive", _module(python, "parfive"), _script(python, "with_parfive.py"), 1_000, as_files),
        Client("httpx", _module(python, "httpx"), _script(python, "with_httpx.py"), 250, as_files),
        Client("requests + pool", _module(python, "requests"), _script(python, "with_requests.py"), 450, as_files),
    ]


def bundlers(python: str) -> list[Client]:
    """
    Return all clients that download bundles.

    Parameters
    ----------
    python
        As in `everyone`.
    """
    shell = _version("curl", "--version", word=1) if shutil.which("tar") else None
    notebook = _module(python, "requests")
    return [
        Client("psfharvest, bundles", _own_version(), _ours("shards", "bundle"), 6_000, in_manifest),
        Client("curl + tar", shell, _curl_and_tar, 3_000, as_files),
        Client("requests + tarfile", notebook, _notebook_bundles(python), 1_500, as_files),
    ]


def own_command() -> str | None:
    """Return this project's command: the one beside this interpreter, or the one on the path."""
    beside = Path(sys.executable).with_name("psfharvest")
    return str(beside) if beside.exists() else shutil.which("psfharvest")


def as_files(job: Job, body_bytes: int | None) -> int:
    """
    Count the whole cutouts below a run's folder.

    Parameters
    ----------
    job
        The run.
    body_bytes
        The size of a whole one; None counts all that are not empty.
    """
    sizes = (path.stat().st_size for path in job.out.rglob("*fits*") if path.is_file())
    return sum(size == body_bytes if body_bytes else size > 0 for size in sizes)


def in_manifest(job: Job, body_bytes: int | None) -> int:
    """
    Count the cutouts that a harvest claims, where its shards hold so many bytes.

    Parameters
    ----------
    job
        The run.
    body_bytes
        The size of a whole one, if known.
    """
    manifest = sqlite3.connect(job.out / "harvest" / "manifest.sqlite")
    with manifest:
        claimed, size = manifest.execute(
            "SELECT count(*), coalesce(sum(size_bytes), 0) FROM cutout WHERE state = 'done'"
        ).fetchone()
    manifest.close()
    held = sum(path.stat().st_size for path in (job.out / "harvest").rglob("*.tar"))
    is_held = held >= size and (body_bytes is None or size == claimed * body_bytes)
    return int(claimed) if is_held else 0


def in_manifest_and_files(job: Job, body_bytes: int | None) -> int:
    """
    Count the cutouts that a harvest stored as files; its last words must agree.

    Parameters
    ----------
    job
        The run.
    body_bytes
        The size of a whole one, if known.
    """
    last = (job.desk / "output").read_text().splitlines()[-1:]
    claimed = json.loads(last[0])["done"] if last else 0
    return min(claimed, as_files(job, body_bytes))


def harvest_command(out: Path, uris: Path, server: Server, *options: str) -> list[str]:
    """
    Return the command line of one of our harvests.

    Parameters
    ----------
    out
        The harvest folder.
    uris
        A file of dataURIs.
    server
        Where they are.
    *options
        Further words.
    """
    command = own_command() or "psfharvest"
    return [
        command,
        "harvest",
        str(out),
        "--uris",
        str(uris),
        "--archive",
        server.url,
        "--json",
        "--quiet",
        *options,
    ]


def _ours(sink: str, via: str = "file") -> Callable[[Job], list[str]]:
    def command(job: Job) -> list[str]:
        listing = job.desk / "uris"
        asks.write_uris(listing, job.n)
        options = ("--sink", sink, "--via", via, "--max-connections", str(job.connections))
        return harvest_command(job.out / "harvest", listing, job.server, *options)

    return command


def _curl(job: Job) -> list[str]:
    pairs = asks.targets(job.server.url, job.n)
    config = _written(job, (f'url = "{url}"\noutput = "{job.out}/{name}"\n' for url, name in pairs))
    parallel = ["--parallel", "--parallel-max", str(job.connections)]
    trust = ["--cacert", str(job.server.ca)] if job.server.ca else []
    return ["curl", "--disable", "--silent", "--show-error", "--fail", *parallel, *trust, "--config", str(config)]


def _curl_and_check(job: Job) -> list[str]:
    """
    Return what does by hand what one of our harvests promises: curl, checksums of all, a look at each header.

    The checksums are kept; nothing of it is durable, and it cannot be resumed.
    """
    script = 'find "$1" -type f -print0 | xargs -0 sha256sum > "$2" && exec "$3" -I -S "$4" "$1"'
    words = ["sh", str(job.out), str(job.desk / "sums"), sys.executable, str(CLIENTS / "check_fits.py")]
    return ["sh", "-c", f"{shlex.join(_curl(job))} && {script}", *words]


def _aria2c(job: Job) -> list[str]:
    listing = _written(job, (f"{url}\n out={name}\n" for url, name in asks.targets(job.server.url, job.n)))
    trust = [f"--ca-certificate={job.server.ca}"] if job.server.ca else []
    return [
        *("aria2c", "--no-conf", "--quiet", "--file-allocation=none", "--deferred-input=true"),
        *("--auto-file-renaming=false", "--max-download-result=0", "--split=1", "--max-connection-per-server=1"),
        *(f"--max-concurrent-downloads={job.connections}", f"--input-file={listing}", f"--dir={job.out}", *trust),
    ]


def _wget2(job: Job) -> list[str]:
    listing = _written(job, (f"{url}\n" for url, _ in asks.targets(job.server.url, job.n)))
    trust = [f"--ca-certificate={job.server.ca}"] if job.server.ca else []
    return [
        *(
            "wget2",
            "--no-config",
            "--quiet",
            "--no-robots",
            "--no-hsts",
            "--no-directories",
            "--force-progress=off",
        ),
        *(f"--max-threads={job.connections}", f"--input-file={listing}", f"--directory-prefix={job.out}", *trust),
    ]


def _script(python: str, name: str) -> Callable[[Job], list[str]]:
    def command(job: Job) -> list[str]:
        listing = _written(job, (f"{url}\t{name}\n" for url, name in asks.targets(job.server.url, job.n)))
        return [python, "-I", str(CLIENTS / name), str(listing), str(job.out), str(job.connections)]

    return command


def _curl_and_tar(job: Job) -> list[str]:
    forms = _forms(job)
    each = 'for form in "$1"/*; do curl --disable -sSf --data "@$form" "$2" | tar -xz -C "$3"; done'
    return ["sh", "-c", each, "sh", str(forms), _bundle_url(job), str(job.out)]


def _notebook_bundles(python: str) -> Callable[[Job], list[str]]:
    def command(job: Job) -> list[str]:
        script = str(CLIENTS / "with_bundles.py")
        return [python, "-I", script, str(_forms(job)), str(job.out), _bundle_url(job)]

    return command


def _bundle_url(job: Job) -> str:
    return f"{job.server.url}/api/v0.1/Download/bundle.tar.gz"


def _forms(job: Job) -> Path:
    """Write one form for each bundle."""
    folder = job.desk / "forms"
    folder.mkdir()
    for n, start in enumerate(range(0, job.n, BUNDLE_SIZE)):
        uris = asks.uris(min(BUNDLE_SIZE, job.n - start), start)
        (folder / f"{n:06d}").write_text("&".join(f"uri={asks.quoted(uri)}" for uri in uris))
    return folder


def _written(job: Job, lines: Iterator[str]) -> Path:
    path = job.desk / "list"
    with path.open("w") as file:
        file.writelines(lines)
    return path


def _own_version() -> str | None:
    command = own_command()
    line = machine.first_line(command, "--version") if command else None
    return line.split()[-1] if line else None


def _version(*command: str, word: int) -> str | None:
    line = machine.first_line(*command)
    return line.split()[word] if line else None


def _module(python: str, name: str) -> str | None:
    return machine.first_line(python, "-c", f"import importlib.metadata as m, {name}; print(m.version('{name}'))")
