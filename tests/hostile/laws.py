"""
What must hold of any bytes that an archive (or a list) may send: one law for each thing that reads them.

A law takes bytes and returns nothing; it raises where a result is wrong, or where another error than ours comes
out. The property tests and the coverage-guided driver (`atheris_drive.py`) share these functions.
"""

from __future__ import annotations

import atexit
import math
import re
import shutil
import tempfile
import warnings
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from urllib.parse import quote

import anyio
import numpy as np

from psfharvest.archive.catalog import answer, rows
from psfharvest.archive.catalog.mashup import Mashup
from psfharvest.archive.catalog.table_builder import TableBuilder
from psfharvest.archive.endpoints import Endpoints, quoted
from psfharvest.archive.wires.base import Answer, Request
from psfharvest.core.catalog.partition import WHOLE
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import ArchiveDown, BadInput, BadQuery, BadURI
from psfharvest.core.fits import datauri, fitscheck, keys, pixels
from psfharvest.core.model import BadLine, Failure, Limits, Reason, RetryPolicy, WantedURI
from psfharvest.core.tar import Member, TarDamaged, TarWalk
from psfharvest.engine.archive_limiter import ArchiveLimiter
from psfharvest.run import uri_lists

SIZE_PX, ROOT = 11, "ibc302ioq"
CARD, BLOCK = 80, 2880
MAX_MEMBER = 20_000
MAX_DETAIL = 400
MAX_LINE = 2500
STEPS = (2**30, 512, 100, 7)
PYTHON_TYPES = {"str": str, "int": int, "float": float, "bool": bool}
COMPONENT = re.compile(r"[A-Za-z0-9_+=,@%~][A-Za-z0-9_.+=,@%~-]*")
DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


# FITS.


def law_fits(body: bytes) -> None:
    """The check takes just what a plain reading of the standard takes, and what it takes gives pixels."""
    verdict, of_any, of_exposure = (
        fitscheck.flaw(body, SIZE_PX),
        fitscheck.flaw(body, None),
        fitscheck.flaw(body, SIZE_PX, ROOT),
    )
    for flaw in (verdict, of_any, of_exposure):
        check_flaw(flaw)
    units = plain_reading(body)
    image = None if units is None else next((u for u in units if is_image(*u)), None)
    is_right = image is not None and image[1] == [SIZE_PX, SIZE_PX]
    is_scaled = image is not None and any(card.startswith((b"BSCALE  ", b"BZERO   ")) for card in image[0])

    assert (of_any is None) == (units is not None)
    assert verdict is not None or is_right
    assert verdict is None or is_scaled or not is_right
    assert of_exposure is not None or verdict is None
    if verdict is None:
        check_pixels(body)
        assert fitscheck.flaw(body[:-1], SIZE_PX) is not None
        assert fitscheck.flaw(body + b"\0", SIZE_PX) is not None


def check_flaw(flaw: fitscheck.Rejection | None) -> None:
    """A refusal is one of our words and a short line that a terminal can show."""
    if flaw is not None:
        assert flaw.reason in Reason
        assert len(flaw.detail) <= MAX_DETAIL
        assert flaw.detail.isprintable()


def check_pixels(body: bytes) -> None:
    """What was taken for a cutout has its pixels, and stays byte for byte the same when it is taken apart."""
    with quiet():
        image = pixels.image(body)
        apart = pixels.take_apart(body, SIZE_PX)
    assert image is not None
    assert ((SIZE_PX, SIZE_PX), np.float32) == (image.shape, image.dtype.type)
    assert apart is None or pixels.put_together(*apart) == body


def plain_reading(body: bytes) -> list[tuple[list[bytes], list[int], int]] | None:
    """Read a FITS file card by card: each unit's cards, axes and data's size; None where it is not whole."""
    units: list[tuple[list[bytes], list[int], int]] = []
    start = 0
    while start < len(body) and len(units) <= fitscheck.MAX_EXTENSIONS:
        if not body.startswith(b"XTENSION" if units else b"SIMPLE  =", start):
            return None
        unit = plain_unit(body, start, is_primary=not units)
        if unit is None:
            return None
        cards, _, size = unit
        start += blocks(CARD * (len(cards) + 1)) + blocks(size)
        units.append(unit)
    return units if units and start == len(body) and len(units) <= fitscheck.MAX_EXTENSIONS else None


def plain_unit(body: bytes, start: int, *, is_primary: bool) -> tuple[list[bytes], list[int], int] | None:
    """Read one header."""
    cards: list[bytes] = []
    values: dict[bytes, bytes] = {}
    while (card := body[start + CARD * len(cards) :][:CARD]) != b"END".ljust(CARD):
        if len(card) < CARD or CARD * (len(cards) + 2) > fitscheck.MAX_HEADER_BLOCKS * BLOCK:
            return None
        cards.append(card)
        values.setdefault(card[:8], card[8:])
    bitpix, n_axes = number(values, "BITPIX"), number(values, "NAXIS")
    if bitpix not in (8, 16, 32, 64, -32, -64) or n_axes is None or not 0 <= n_axes <= 999:
        return None
    axes = [number(values, f"NAXIS{n}") for n in range(1, n_axes + 1)]
    more = [0, 1] if is_primary else [number(values, "PCOUNT", 0), number(values, "GCOUNT", 1)]
    if any(n is None or n < 0 for n in (*axes, *more)):
        return None
    size = abs(bitpix) // 8 * more[1] * (more[0] + (math.prod(axes) if axes else 0))
    return cards, axes, size


def number(values: dict[bytes, bytes], keyword: str, absent: int | None = None) -> int | None:
    """Read the integer of a card."""
    field = values.get(keyword.ljust(8).encode())
    if field is None:
        return absent
    if not field.startswith(b"= "):
        return None
    word = re.split(rb"[ /]", field[1:].lstrip(b" "), maxsplit=1)[0]
    digits = word[1:] if word[:1] in (b"+", b"-") else word
    return int(word) if digits.isdigit() and len(digits) <= 18 else None


def is_image(cards: list[bytes], axes: list[int], size: int) -> bool:
    """Whether this is what we take for the image."""
    return bool(size) and len(axes) == 2 and cards[0].startswith((b"SIMPLE  =", b"XTENSION= 'IMAGE"))


def blocks(size: int) -> int:
    """Round up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


# Tars.


def law_tar(data: bytes) -> None:
    """Any bytes, as they are and with the sums that their headers ought to have, are walked or refused."""
    check_walk(data)
    summed = with_right_sums(data)
    if summed != data:
        check_walk(summed)


def with_right_sums(data: bytes) -> bytes:
    """Give each block that looks like a header its checksum, without which nothing of it would be read."""
    mended = bytearray(data)
    for start in range(0, len(data) - 511, 512):
        if data.startswith(b"ustar", start + 257):
            mended[start + 148 : start + 156] = b" " * 8
            mended[start + 148 : start + 156] = b"%06o\0 " % sum(mended[start : start + 512])
    return bytes(mended)


def check_walk(data: bytes) -> None:
    """However a tar is cut into pieces, the same members come out, each inside, whole and within its cap."""
    readings = [walked(data, step) for step in STEPS if len(data) // step < 300]
    members, ending = readings[0]

    assert all(reading == readings[0] for reading in readings)
    assert ending in ("ended", "between", "within", "damaged")
    assert sum(len(m.body) for m in members) <= len(data)
    for member in members:
        assert len(member.body) <= (0 if member.problem else MAX_MEMBER)
        assert member.problem or not Path(member.name).is_absolute()
        assert member.problem or ".." not in re.split(r"[/\\]", member.name)
        assert member.problem or data.find(member.body) >= 0
        assert len(member.problem) <= MAX_DETAIL


def walked(data: bytes, step: int) -> tuple[list[Member], str]:
    """Walk a tar in pieces: its members, and how it ended."""
    walk = TarWalk(MAX_MEMBER, lambda name: True)
    found: list[Member] = []
    try:
        for start in range(0, len(data), step):
            for member in walk.feed(data[start : start + step]):
                found.append(member)  # noqa: PERF402 - what comes before the damage counts
    except TarDamaged:
        return found, "damaged"
    return found, "ended" if walk.is_ended else "between" if walk.is_between_members else "within"


# Answers to queries.


def law_rows(body: bytes) -> None:
    """An answer is rows of the types that its fields say, which make a table and a file, or it is refused."""
    try:
        found = answer.rows_of(answer.parse(body))
    except rows.Unreadable as error:
        check_words(error, MAX_DETAIL)
        return
    n_cells = len(found.columns) * len(found)
    assert n_cells <= max(answer.MAX_STRAYS, len(body))
    for row in found.values:
        for kind, value in zip(found.kinds, row, strict=True):
            assert value is None or type(value) is PYTHON_TYPES[kind]
            assert kind != "str" or value is None or value.encode("utf-8")
            assert kind != "int" or value is None or -(2**63) <= value < 2**63
    with quiet():
        builder = TableBuilder()
        builder.add(found)
        assert list(found.columns) == builder.table().colnames
    with suppress(rows.Unreadable):
        ids = [id_ for id_ in found.distinct().ids() if id_ is not None]
        assert sorted(ids) == ids


def check_words(error: Exception, limit: int) -> None:
    """What an error says is short, and can be shown on a terminal."""
    assert len(str(error)) <= limit
    assert str(error).isprintable()


class OneAnswer:
    """A wire that gives the same body to every question, as far as it may be read."""

    depth = 0

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def exchange(self, request: Request) -> Answer:
        if len(self._body) > request.max_bytes:
            return Answer(request, failure=Failure(Reason.TOO_LARGE, "more"))
        return Answer(request, 200, self._body)


def law_mashup(body: bytes) -> None:
    """A query that is answered so ends by a count, by rows, or by one of our two errors in plain short words."""
    law_rows(body)
    anyio.run(ask, body)


async def ask(body: bytes) -> None:
    """Ask for a count, and for rows."""
    limits, policy = Limits(timeout_s=0.001, page_rows=10), RetryPolicy(patience_s=0)
    limiter = ArchiveLimiter(limits, policy, is_public=False).share()
    mashup = Mashup(OneAnswer(body), limiter, Endpoints("http://127.0.0.1:9"), limits, policy)
    query = Query("UVIS", columns=["id"])
    for ask_for, what in ((mashup.count(query), int), (mashup.rows(query, WHOLE, 5, ["id"]), rows.Rows)):
        try:
            found = await ask_for
        except (ArchiveDown, BadQuery) as error:
            check_words(error, 3000)
        else:
            assert isinstance(found, what)
            assert what is rows.Rows or 0 <= found <= 2**53
    assert limiter.in_flight == 0


# Names.


def law_datauri(data: bytes) -> None:
    """Any text is refused, or read losslessly and given a harmless key; one way leads to its dataURL and back."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        parts = datauri.parse(text)
    except BadURI as error:
        check_words(error, MAX_LINE)
        return
    assert parts is None or str(parts) == text
    assert quoted(text) == quote(text, safe="")
    for copy in (0, 1, 1000):
        check_key(keys.key_of(text, parts, copy))
    if parts is not None:
        assert parts.center is None or all(map(math.isfinite, parts.center))
        assert (1 <= parts.size_px <= 99_999, 0 <= parts.source_id < 2**63) == (True, True)
    try:
        url = datauri.data_url(text, "http://127.0.0.1:9")
    except BadURI:
        return
    assert datauri.from_data_url(url) == ("http://127.0.0.1:9", text)


def check_key(key: str) -> None:
    """A key is a relative path of plain, short, harmless names, none of which is the folder's own."""
    components = key.split("/")
    assert len(key) < 1100
    assert all(COMPONENT.fullmatch(c) and len(c) <= 255 and not c.endswith(".") for c in components)
    assert not any(DEVICE.fullmatch(c) for c in components)
    assert not components[0].casefold().startswith(("manifest.sqlite", "shards", "parquet", "other", "contact"))


def is_foreign(data: bytes) -> bool:
    """A list whose first bytes are those of another encoding or of a compressed file is refused as such."""
    starts = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"\xff\xfe", b"\xfe\xff")
    return data.startswith(starts) or b"\0" in data[:4096]


def law_list(data: bytes) -> None:
    """A list's lines are dataURIs that can be asked for, or bad lines with their numbers; none is lost."""
    path = scratch() / "list"
    path.write_bytes(data)
    batches = list(uri_lists.from_file(path, 0, 0))
    found = [line for batch in batches for line in batch.asked]
    n_lines = len(data.splitlines())

    assert (batches[-1].lines if batches else 0) == n_lines
    assert all(batch.position <= len(data) for batch in batches)
    assert not batches or batches[-1].position == len(data)
    assert all(isinstance(line, WantedURI | BadLine) for line in found)
    for line in found:
        line[0].encode()
        if isinstance(line, WantedURI):
            assert line[::2] == datauri.read(line.uri)
        else:
            assert (line.detail.startswith("line "), len(line.text) <= 200, len(line.detail) < 200) == (True,) * 3
    for batch in batches[:3]:
        rest = [line for later in uri_lists.from_file(path, batch.position, batch.lines) for line in later.asked]
        assert rest == found[len(found) - len(rest) :]
    is_empty = not any(isinstance(line, WantedURI) for line in found)
    try:
        uri_lists.identity(path)
    except BadInput as error:
        check_words(error, 1000)
        is_refused = "not a text in UTF-8" in str(error)
    else:
        is_refused = False
        assert not is_empty
    assert is_refused == is_foreign(data)


@cache
def scratch() -> Path:
    """A folder for one process, gone at its end."""
    path = Path(tempfile.mkdtemp(prefix="hostile-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@contextmanager
def quiet():
    """Let numpy and astropy warn of hostile numbers and cards to nobody."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


LAWS = {"fits": law_fits, "tar": law_tar, "mashup": law_mashup, "datauri": law_datauri, "list": law_list}
