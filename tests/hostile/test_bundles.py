"""Hostile bundles through the whole path, over a socket and into each sink: nothing outside, nothing wrong."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import anyio
import pytest
from wire_server import CLOSE, Forever, Step, WireServer, reply

from harness import rows_of, stored_bytes
from hostile.laws import with_right_sums
from hostile.seeds import cutout_uri, render
from psfharvest import Archive, RetryPolicy
from psfharvest.core.fits import datauri

SINKS = ("files", "shards", "parquet")
QUICK = RetryPolicy(attempts=3, first_delay_s=0.01, max_delay_s=0.02)
URIS = [cutout_uri(k) for k in range(3)]
NAMES = [datauri.file_name(uri) for uri in URIS]
BUNDLE, FILE = "/api/v0.1/Download/bundle.tar.gz", "/api/v0.1/Download/file"
MAX_PEAK_MIB = 450


def member(name: str, body: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """One member, in GNU's dialect."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(body)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + body + bytes(-len(body) % 512)


def resized(head: bytes, size: bytes) -> bytes:
    """A member's head with another size in it."""
    return with_right_sums(head[:124] + size + head[136:])


def evil_names(outside: Path) -> bytes:
    """Whatever an archive could name a file, with a cutout as its body; the third cutout comes rightly."""
    names = [
        f"{outside}/{NAMES[0]}", f"../{outside.name}/{NAMES[0]}", f"M/../../{outside.name}/x.fits",
        f"..\\..\\{NAMES[0]}", f"C:\\{NAMES[0]}", f"//host/share/{NAMES[0]}", f"~/{NAMES[0]}\0", "a\0b", "\r\x1b[J",
        "manifest.sqlite", "../manifest.sqlite", ".partial/0", "shards/000000.tar", "x/MANIFEST.HTML", "é" * 3000,
        "n" * 10_000, "/".join("d" * 5000), "\udcff\udcfe", "",
    ]  # fmt: skip
    links = [(tarfile.SYMTYPE, str(outside)), (tarfile.LNKTYPE, "/etc/passwd"), (tarfile.SYMTYPE, "../..")]
    special = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE)
    return b"".join(
        [
            *(member(name, render(0)) for name in names),
            *(member(name, b"", kind, link) for kind, link in links for name in (NAMES[1], "WFC3PSF", "d")),
            *(member(NAMES[1], b"", kind) for kind in special),
            resized(member("huge"), b"\x80" + bytes(6) + b"\0\0\0\2\0") + bytes(512),
            member(f"any/where/{NAMES[2]}", render(2)),
            bytes(1024),
        ]
    )


@pytest.mark.sample(1)
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("sink", SINKS)
def test_names_that_lead_anywhere(tmp_path: Path, sink: str, *, is_packed: bool) -> None:
    """What is named as asked is stored under our own name; of all else nothing appears, inside or outside."""
    home, outside = tmp_path / "home", tmp_path / "outside"
    outside.mkdir()
    (outside / NAMES[0]).write_bytes(b"mine")
    data = evil_names(outside)
    script = {BUNDLE: (reply(gzip.compress(data) if is_packed else data),), FILE: (reply(b"", "404 Not Found"),)}
    with WireServer(script) as server:

        async def run() -> dict:
            async with Archive(server.url(""), retry=QUICK) as archive:
                return (await archive.harvest(URIS, home, sink=sink, via="bundle")).to_dict()

        account = anyio.run(run)

    assert (3, 3, 0) == (account["total"], account["done"] + account["missing"], account["pending"])
    assert account["done"] >= 1
    for row in rows_of(home):
        if row["state"] == "done":
            assert render(URIS.index(row["uri"])) == stored_bytes(home, row)
    assert [home, outside] == sorted(tmp_path.iterdir())
    assert b"mine" == (outside / NAMES[0]).read_bytes()
    assert [NAMES[0]] == [path.name for path in outside.iterdir()]
    for path in home.rglob("*"):
        assert stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFREG, stat.S_IFDIR)
    tops = {"manifest.sqlite", {"files": "WFC3PSF"}.get(sink, sink)}
    assert tops == {path.name for path in home.iterdir() if not path.name.endswith(".lock")}


def endless_gzip(first: bytes, block: bytes) -> tuple[Step, ...]:
    """A gzip stream that goes on for ever, a mebibyte from a kilobyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = packer.compress(first) + packer.flush(zlib.Z_FULL_FLUSH)
    return (b"HTTP/1.1 200 OK\r\n\r\n" + start, Forever(packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)))


MIB = bytes(2**20)
PLAIN = b"HTTP/1.1 200 OK\r\n\r\n"
BOMBS: dict[str, tuple[Step, ...]] = {
    "a member that never ends": endless_gzip(resized(member(NAMES[0]), b"77777777777\0"), MIB),
    "members without end": endless_gzip(member("x"), member("x") * 2000),
    "names without end": endless_gzip(b"", member("x", bytes(2**20 - 1), tarfile.GNUTYPE_LONGNAME)),
    "no cutout as large as is allowed": (reply(gzip.compress(member(NAMES[0], MIB * 2), 1)), CLOSE),
}


CHILD = """
import json, resource, sys
import anyio
from hostile.memory import peak_mib
from psfharvest import Archive, Limits, RetryPolicy

async def run(url, sink, *uris):
    limits = Limits(max_connections=2, max_body_bytes=2 * 2**20)
    async with Archive(url, limits=limits, retry=RetryPolicy(attempts=3, first_delay_s=0.01)) as archive:
        report = await archive.harvest(uris, "home", sink=sink, via="bundle")
    print(json.dumps({"reasons": dict(report.reasons), "peak_mib": peak_mib()}))

resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
anyio.run(run, *sys.argv[1:])
"""


@pytest.mark.sample(1)
@pytest.mark.parametrize(("name", "sink"), list(zip(BOMBS, (*SINKS, "files"), strict=True)))
def test_bundles_that_grow(tmp_path: Path, name: str, sink: str) -> None:
    """A bundle that expands without end is left, memory stays small, and the run ends with a whole account."""
    with WireServer({BUNDLE: BOMBS[name], FILE: (reply(b"", "404 Not Found"),)}) as server:
        words = [sys.executable, "-c", CHILD, server.url(""), sink, *URIS]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(words, cwd=tmp_path, env=env, stdout=subprocess.PIPE, check=False)

    assert 0 == done.returncode
    found = json.loads(done.stdout)
    assert {"not_found": 3} == found["reasons"]
    assert found["peak_mib"] < MAX_PEAK_MIB


def test_the_bombs_are_tars() -> None:
    """What the tests above send begins as a tar that the standard library reads."""
    with tarfile.open(fileobj=io.BytesIO(evil_names(Path("/outside")))) as tar:
        assert f"any/where/{NAMES[2]}" in tar.getnames()
