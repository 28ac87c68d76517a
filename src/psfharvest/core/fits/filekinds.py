"""
Check of other files by the kind that their name states: bytes → a whole file of that kind, or why not.

A cutout's dataURI fixes what its body must be. Any other ``mast:`` URI names a file whose ending tells its kind;
where it does not, a body is refused that looks like an error message: an HTML page, or a short text.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from xml.parsers import expat

from psfharvest.core import tar
from psfharvest.core.fits import datauri, fitscheck, quirks
from psfharvest.core.fits.fitscheck import Rejection
from psfharvest.core.fits.quirks import GZIP_MAGIC, Verdict
from psfharvest.core.model import Item, Reason

MAX_SHORT_TEXT_BYTES = 64 * 2**10
"""A text of at most this size, in a file that is not named as a text, is taken for an error message."""
MAX_INFLATED_BYTES = 2**30
"""What a gzip file may hold at most; a larger one is refused before it is inflated further."""
MAX_PARSED_BYTES = 4 * 2**20
"""A larger JSON or XML text is looked at in its ends only."""
INFLATE_AT_ONCE = 2**20

Check = Callable[[bytes], Rejection | None]
Look = Callable[[], object]
"""Is called now and then in a check that takes long; what it raises ends the check."""

_TEXTS = (
    ".txt", ".text", ".csv", ".tsv", ".ecsv", ".tbl", ".cat", ".dat", ".log", ".lst", ".list", ".asc", ".ascii",
    ".hdr", ".head", ".md", ".rst", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".par", ".reg", ".trl", ".tra",
    ".lis", ".prt", ".sh", ".py", ".tex", ".bib",
)  # fmt: skip
_ZIP_END = b"PK\x05\x06"
_ZIP_END_MAX_BYTES = 22 + 2**16
_HTML_FRAGMENT = re.compile(
    rb"(?i)(?:\xef\xbb\xbf)?\s*<(?:h[1-6]|p|div|center|pre|table|font|span|br|hr|b|strong|meta|script|style)\b[^<>]*>"
)
"""How an error message of a server begins that is no whole page, such as ``<h1>502 Bad Gateway</h1>``."""
_TEXT_CONTROLS = frozenset(b"\t\n\r\x0b\x0c\x1b")


def verdict(item: Item, body: bytes, accepted: Collection[str] = (), look: Look = lambda: None) -> Verdict:
    """Return what is wrong with `body` as what an item asks for, or which quirk it has; see `quirks.verdict`."""
    if item.size_px is not None:
        return quirks.verdict(item, body, accepted)
    return Verdict(flaw_of_file(body, datauri.file_name(item.uri), look))


def plain_verdict(item: Item, body: bytes, accepted: Collection[str] = ()) -> Verdict | None:
    """Return `verdict` where it takes no more than some 10 us; else None."""
    if item.size_px is None:
        return None if body.startswith(GZIP_MAGIC) else verdict(item, body, accepted)
    plain = quirks.plain_verdict(item, body, accepted)
    return plain if isinstance(plain, Verdict) else None


def flaw_of_file(body: bytes, name: str, look: Look = lambda: None) -> Rejection | None:
    """Return why `body` is no whole file of the kind that its name tells, or None when it is."""
    if not body:
        return Rejection(Reason.EMPTY, "no bytes")
    if fitscheck.OFF_DETECTOR_TEXT in body[:8192]:
        return Rejection(Reason.OFF_DETECTOR, fitscheck.error_text(body))
    check = _check_of(name)
    if check is _unnamed_flaw and body.startswith(GZIP_MAGIC):
        check = _Inflated(_AnyStream)
    return check(body, look) if isinstance(check, _Inflated) else check(body)


def _check_of(name: str) -> Check:
    """Return the check of the kind that a name tells; of two names around a ``?``, the path's goes first."""
    for part in (name.partition("?")[0], name):
        lowered = part.lower()
        for endings, check in _CHECKS:
            if lowered.endswith(endings):
                return check
    return _unnamed_flaw


def _fits_flaw(body: bytes) -> Rejection | None:
    return fitscheck.flaw(body, None)


def _tar_flaw(body: bytes) -> Rejection | None:
    tar = _TarStream()
    return _page_flaw(body) or tar.feed(body) or tar.end()


def _text_flaw(body: bytes) -> Rejection | None:
    page = _html_flaw(body)
    if page is None and len(body) <= MAX_SHORT_TEXT_BYTES and _HTML_FRAGMENT.match(body):
        page = Rejection(Reason.HTML_PAGE, fitscheck.error_text(body))
    return page


def _html_file_flaw(body: bytes) -> Rejection | None:
    del body  # any text may be a whole web page
    return None


def _json_flaw(body: bytes) -> Rejection | None:
    page = _html_flaw(body)
    if page is not None:
        return page
    if len(body) > MAX_PARSED_BYTES:
        first, last = body.lstrip()[:1], body[-64:].rstrip()[-1:]
        return None if (first, last) in ((b"{", b"}"), (b"[", b"]")) else _other_kind("JSON", body)
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return _other_kind("JSON", body)
    return None


def _xml_flaw(body: bytes) -> Rejection | None:
    page = _html_flaw(body)
    if page is not None:
        return page
    if len(body) > MAX_PARSED_BYTES:
        is_whole = body[-4096:].rstrip().endswith(b">")
        return None if is_whole else Rejection(Reason.TRUNCATED, f"{len(body)} bytes of XML without its end")
    try:
        expat.ParserCreate().Parse(body, True)
    except expat.ExpatError as error:
        return _page_flaw(body) or _other_kind(f"whole XML ({error})", body)
    return None


def _zip_flaw(body: bytes) -> Rejection | None:
    if not body.startswith((b"PK\x03\x04", _ZIP_END)):
        return _page_flaw(body) or _other_kind("ZIP", body)
    end = body.rfind(_ZIP_END, max(0, len(body) - _ZIP_END_MAX_BYTES))
    n_comment = int.from_bytes(body[end + 20 : end + 22], "little")
    if end < 0 or len(body) != end + 22 + n_comment:
        return Rejection(Reason.TRUNCATED, f"{len(body)} bytes of ZIP without its end")
    return None


def _unnamed_flaw(body: bytes) -> Rejection | None:
    """Return what is wrong with a file whose name tells no kind; its first bytes may tell one."""
    if body.startswith(b"SIMPLE  ="):
        return _fits_flaw(body)
    page = _html_flaw(body)
    if page is None and len(body) <= MAX_SHORT_TEXT_BYTES and _is_text(body):
        page = Rejection(Reason.TEXT_PAGE, fitscheck.error_text(body))
    return page


def _framed(kind: str, starts: tuple[bytes, ...], ends: tuple[bytes, ...], tail: int) -> Check:
    """Return the check of a kind that is recognised by its first bytes and an end mark in its last `tail` bytes."""

    def check(body: bytes) -> Rejection | None:
        if not body.startswith(starts):
            return _page_flaw(body) or _other_kind(kind, body)
        if ends and not any(end in body[-tail:] for end in ends):
            return Rejection(Reason.TRUNCATED, f"{len(body)} bytes of {kind} without its end mark")
        return None

    return check


class _AnyStream:
    """A consumer that accepts any bytes."""

    def feed(self, data: bytes) -> Rejection | None:
        """Take the next bytes."""
        del data
        return None

    def end(self) -> Rejection | None:
        """Return what is wrong at the end."""
        return None


class _TarStream:
    """A consumer that checks a tar's first header, its length, and the empty block at its end."""

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""
        self._size = 0

    def feed(self, data: bytes) -> Rejection | None:
        """Take the next bytes."""
        if len(self._head) < tar.BLOCK:
            self._head += data[: tar.BLOCK - len(self._head)]
        self._tail = (self._tail + data[-tar.BLOCK :])[-tar.BLOCK :]
        self._size += len(data)
        return None

    def end(self) -> Rejection | None:
        """Return what is wrong at the end."""
        if self._head.strip(b"\0") and tar.parse_header(self._head) is None:
            return _other_kind("tar", self._head)
        if self._size % tar.BLOCK or self._size < tar.BLOCK or self._tail.strip(b"\0"):
            return Rejection(Reason.TRUNCATED, f"{self._size} bytes of tar without its end")
        return None


@dataclass(frozen=True, slots=True)
class _Inflated:
    """The check of a gzip file whose content a consumer accepts; memory stays flat."""

    make_consumer: Callable[[], fitscheck.FitsStream | _TarStream | _AnyStream]

    def __call__(self, body: bytes, look: Look = lambda: None) -> Rejection | None:
        """Return why `body` is no whole file of that."""
        if not body.startswith(GZIP_MAGIC):
            return _page_flaw(body) or _other_kind("gzip", body)
        consumer = self.make_consumer()
        size = 0
        try:
            for piece in _inflate(body):
                look()
                size += len(piece)
                if size > MAX_INFLATED_BYTES:
                    return Rejection(
                        Reason.TOO_LARGE, f"a gzip file of more than {MAX_INFLATED_BYTES} bytes when inflated"
                    )
                found = consumer.feed(piece)
                if found is not None:
                    return found
        except EOFError:
            return Rejection(Reason.TRUNCATED, f"{len(body)} bytes of gzip without its end")
        except zlib.error as error:
            return Rejection(Reason.WRONG_KIND, f"a damaged gzip file: {error}")
        return consumer.end()


_CHECKS: tuple[tuple[tuple[str, ...], Check], ...] = (
    ((".fits.gz", ".fit.gz", ".fts.gz"), _Inflated(fitscheck.FitsStream)),
    ((".fits", ".fit", ".fts", ".fits.fz"), _fits_flaw),
    ((".tar.gz", ".tgz"), _Inflated(_TarStream)),
    ((".gz",), _Inflated(_AnyStream)),
    ((".tar",), _tar_flaw),
    ((".jpg", ".jpeg"), _framed("JPEG", (b"\xff\xd8\xff",), (b"\xff\xd9",), 4096)),
    ((".png",), _framed("PNG", (b"\x89PNG\r\n\x1a\n",), (b"IEND\xaeB`\x82",), 4096)),
    ((".gif",), _framed("GIF", (b"GIF87a", b"GIF89a"), (b"\0;",), 2)),
    ((".tif", ".tiff"), _framed("TIFF", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), (), 0)),
    ((".pdf",), _framed("PDF", (b"%PDF-",), (b"%%EOF",), 4096)),
    ((".ps", ".eps"), _framed("PostScript", (b"%!", b"\xc5\xd0\xd3\xc6"), (), 0)),
    ((".zip",), _zip_flaw),
    ((".h5", ".hdf5"), _framed("HDF5", (b"\x89HDF\r\n\x1a\n",), (), 0)),
    ((".asdf",), _framed("ASDF", (b"#ASDF ",), (), 0)),
    ((".parquet",), _framed("Parquet", (b"PAR1",), (b"PAR1",), 4)),
    ((".json",), _json_flaw),
    ((".xml", ".vot", ".votable", ".svg"), _xml_flaw),
    ((".html", ".htm", ".xhtml"), _html_file_flaw),
    (_TEXTS, _text_flaw),
)


def _inflate(body: bytes) -> Iterator[bytes]:
    """Yield what the members of a gzip file hold; raise EOFError where the file ends before one of them does."""
    rest = memoryview(body)
    while rest and bytes(rest[: tar.BLOCK]).strip(b"\0"):  # zeros may pad the end
        member = zlib.decompressobj(31)
        while not member.eof:
            if not rest and not member.unconsumed_tail:
                raise EOFError
            taken = member.unconsumed_tail or bytes(rest[:INFLATE_AT_ONCE])
            if not member.unconsumed_tail:
                rest = rest[INFLATE_AT_ONCE:]
            yield member.decompress(taken, INFLATE_AT_ONCE)
        left = len(member.unused_data)
        rest = memoryview(body)[len(body) - len(rest) - left :]


def _page_flaw(body: bytes) -> Rejection | None:
    """Return the flaw of a body that is an error page instead of a binary file, or None."""
    page = _html_flaw(body)
    if page is None and _is_text(body[:MAX_SHORT_TEXT_BYTES]):
        page = Rejection(Reason.TEXT_PAGE, fitscheck.error_text(body))
    return page


def _html_flaw(body: bytes) -> Rejection | None:
    if fitscheck.is_html(body):
        return Rejection(Reason.HTML_PAGE, fitscheck.error_text(body))
    return None


def _is_text(body: bytes) -> bool:
    """Return True for a text in UTF-8, Latin-1 or UTF-16."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = body.decode("utf-16", "replace")
        return sum(c.isprintable() or c.isspace() for c in text) > 0.95 * len(text)
    if any(b < 32 and b not in _TEXT_CONTROLS for b in body):
        return False
    n_high = sum(b >= 127 for b in body)
    if not n_high:
        return True
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start > len(body) - 4 or n_high < len(body) // 4
    return True


def _other_kind(kind: str, body: bytes) -> Rejection:
    return Rejection(Reason.WRONG_KIND, f"no {kind}: {fitscheck.error_text(body)!r}"[:200])
