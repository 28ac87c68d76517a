"""
Inputs whose reading once took minutes or gigabytes, for a process of its own with limits set by the system.

Run as a program it prints for each of `HEAVY` how it ended and how much memory it took. Reading any of them takes a
few seconds and a small multiple of its size; the limits are far from that, and far from what they once took.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tarfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hostile import laws, seeds
from hostile.memory import peak_mib
from psfharvest.archive.catalog import answer, rows
from psfharvest.core.errors import BadURI
from psfharvest.core.fits import datauri, fitscheck, keys
from psfharvest.core.tar import TarDamaged, TarWalk

CPU_LIMIT_S = 60
MIB = 2**20


def axes() -> None:
    """Twenty units, each with 999 axes that stand behind 30,000 cards of nearly the same name."""
    start = ["BITPIX  = 8", "NAXIS   = 999"]
    behind = ["NAXISX  = 1"] * 30_000 + [f"NAXIS{n:<3}= 0" for n in range(1, 1000)] + ["END"]
    unit = b"".join(card.encode().ljust(80) for card in ("XTENSION= 'IMAGE   '", *start, *behind))
    unit = unit.ljust(laws.blocks(len(unit)))
    body = b"SIMPLE  =".ljust(80) + unit[80:] + unit * 19
    assert len(fitscheck.walk(body)) == 20


def ends() -> None:
    """A header full of END where no card begins."""
    fitscheck.flaw(b"SIMPLE  = ".ljust(81) + (b"END".ljust(80)) * 35_000, 51)
    fitscheck.flaw(b"SIMPLE  =" + b"EN" * 30 * MIB, 51)


def pages() -> None:
    """Error pages whose tags never close."""
    for text in (b"<title>", b"<script><", b"<title", b"</title \t", b"<title></title", b"<!--", b"<" * 50):
        fitscheck.error_text(text * (8192 // len(text)))
        fitscheck.flaw(text * (20 * MIB // len(text)), 51)


def members() -> None:
    """Fifty thousand empty members, a name of a mebibyte, and one of lines without end."""
    empty = tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT)
    names = []
    for kind, text in ((tarfile.GNUTYPE_LONGNAME, b"../" * 300_000), (tarfile.XHDTYPE, b"\n" * MIB)):
        info = tarfile.TarInfo("l")
        info.type, info.size = kind, len(text)
        names.append(info.tobuf(tarfile.USTAR_FORMAT) + text + bytes(-len(text) % 512) + empty)
    walk = TarWalk(100, lambda name: True)
    assert sum(1 for piece in [*names * 8, empty * 50_000] for _ in walk.feed(piece)) >= 50_000
    with suppress(TarDamaged):
        list(TarWalk(100, lambda name: True).feed(b"a" * 20 * MIB))


def unasked() -> None:
    """Four hundred mebibytes of a member that nobody wants, in small pieces."""
    info = tarfile.TarInfo("x.fits")
    info.size = 8**11 - 1
    walk = TarWalk(10**12, lambda name: False)
    list(walk.feed(info.tobuf(tarfile.USTAR_FORMAT)))
    for _ in range(400):
        list(walk.feed(bytes(MIB)))


def words() -> None:
    """An error message of six megabytes, made for a pattern that looks back."""
    text = ("service " * 400_000 + "invalid column name '" + "x" * 10**6) * 2
    laws.law_mashup(json.dumps({"status": "ERROR", "msg": text[: MIB // 2]}).encode())
    laws.law_mashup(json.dumps({"status": text}).encode())


def cells() -> None:
    """Ten thousand columns of which no row has any, in half a million rows."""
    fields = [{"name": f"c{n}", "type": "int"} for n in range(10_000)]
    text = json.dumps({"data": [{"c1": 1}] * 500_000, "fields": fields}, separators=(",", ":"))
    with suppress(rows.Unreadable):
        answer.rows_of(answer.parse(text.encode()))


def containers() -> None:
    """Thirty megabytes of lists and objects that hold nothing, each worth twenty times its text."""
    for text in (b"[],", b"{},", b"[[]],", b'{"a":{}},'):
        with suppress(rows.Unreadable):
            answer.parse(b'{"data":[' + text * (10 * MIB // len(text)) + b"1]}")


def texts() -> None:
    """DataURIs of fifty megabytes, and long ones that nearly fit the grammar."""
    uri = seeds.cutout_uri()
    for text in (
        "mast:" + "a" * 50 * MIB,
        uri.replace("99.4127", "9" * 10**7),
        uri * 10_000,
        "mast:" + "/a" * 10**7,
    ):
        with suppress(BadURI):
            datauri.parse(text)
    for path in ("/a" * 990, "é" * 900, "." * 1900, "?" * 1900, "~/" * 900):
        laws.check_key(keys.key_of(f"mast:{path}", datauri.parse(f"mast:{path}")))


def lines() -> None:
    """A list of fifty megabytes in one line, then of 300,000 empty ones."""
    laws.law_list(b"mast:" + b"a" * 50 * MIB)
    laws.law_list(b"\n" * 300_000 + b"mast:a")


HEAVY: dict[str, Callable[[], None]] = {
    found.__name__: found for found in (axes, ends, pages, members, unasked, words, cells, containers, texts, lines)
}


def tried(name: str) -> dict[str, int]:
    """Read one of them in a child that has a minute of the processor: how it ended, and how much it grew."""
    hears, tells = os.pipe()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
        status = 1
        before = peak_mib()
        try:
            HEAVY[name]()
            os.write(tells, str(peak_mib() - before).encode())
            status = 0
        except Exception:  # noqa: BLE001 - told here: nothing of a fork may leave this function
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(tells)
    with os.fdopen(hears) as told:
        growth_mib = int(told.read() or -1)
    _, status, used = os.wait4(child, 0)
    return {"status": status, "growth_mib": growth_mib, "cpu_s": round(used.ru_utime)}


if __name__ == "__main__":
    laws.scratch()  # made here, so that it goes when this process does
    sys.stdout.write(json.dumps({name: tried(name) for name in HEAVY}))
