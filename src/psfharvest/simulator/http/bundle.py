"""
Bundles: many cutouts as one tar.gz, sent while it is built.

Rules: the root directory is the first member; a member's bytes are those of ``Download/file``; memory
does not grow with the bytes of the bundle.
"""

import html
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

import anyio
import anyio.lowlevel

from psfharvest.simulator.faults.faultbook import FaultBook
from psfharvest.simulator.faults.faults import Fault
from psfharvest.simulator.http.tarball import END, GzipStream, Packed, PlainStream, entry, packed, padded
from psfharvest.simulator.oddities import transport
from psfharvest.simulator.settings import Settings
from psfharvest.simulator.sky.fitscut import Fitscut
from psfharvest.simulator.sky.order import FitscutError, parse_uri

_FLUSH_BYTES: Final = 65_536
_TERABYTE: Final = 10**12
_PAGE: Final = b"<!DOCTYPE html><html><body><h1>Internal Server Error</h1></body></html>\n"


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a bundle, before it is made."""

    uri: str
    path: str
    """Path below the root directory."""


def member_of(uri: str) -> Member:
    """Tell where a URI's file stands in a bundle."""
    folder = uri.removeprefix("mast:").split("/", 1)[0]
    return Member(uri, f"{folder}/{uri.rsplit('/', 1)[-1]}")


class Bundle:
    """One bundle in the making."""

    def __init__(
        self,
        uris: Sequence[str],
        fitscut: Fitscut,
        settings: Settings,
        *,
        now: datetime,
        fault: Fault | None,
        book: FaultBook,
    ) -> None:
        self.root = f"MAST_{now:%Y-%m-%dT%H%M}"
        self._members = [member_of(uri) for uri in uris]
        self._fitscut = fitscut
        self._settings = settings
        self._mtime_s = int(now.timestamp())
        self._fault = fault
        self._kind = fault.kind if fault is not None else ""
        self._hit = book.members(fault, uris) if fault is not None and fault.picks_members else frozenset()
        self._odd = settings.oddities
        self._gzip = PlainStream() if "bundle_plain" in self._odd else GzipStream(settings.bundle_level)
        self._n_members = 0
        self._statuses: dict[str, str] = {}

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Give the compressed bytes, in pieces of some 64 kB."""
        waiting = [self._gzip.head]
        size = 0
        for piece in self._pieces():
            waiting.append(piece)
            size += len(piece)
            if self._settings.bundle_latency_s_per_cutout:
                await anyio.sleep(self._settings.bundle_latency_s_per_cutout)
            if size > _FLUSH_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
                await anyio.lowlevel.checkpoint()
        end = self._gzip.finish()
        waiting.append(end[:-8] if "bundle_no_trailer" in self._odd else end)
        yield b"".join(waiting)

    def _pieces(self) -> Iterator[bytes]:
        if transport.has_root(self._odd):
            root = transport.member_path(self.root, "", 0, self._odd)
            yield self._gzip.write(entry(f"{root.rstrip('/')}/", 0, self._mtime_s, kind=b"5"))
        if self._settings.bundle_manifest == "first":
            yield self._manifest()
        if self._kind == "bundle_evil":
            yield self._gzip.write(self._evil())
        names: set[str] = set()
        for index, member in enumerate(self._members):
            if self._is_cut(index):
                return
            if self._settings.bundle_same_name == "first" and member.path in names:
                continue
            names.add(member.path)
            is_packed = self._settings.static and not self._kind and not self._odd
            yield self._packed(member) if is_packed else self._member(member)
        yield from self._tail()

    def _tail(self) -> Iterator[bytes]:
        fault = self._fault
        if self._kind == "bundle_foreign":
            yield self._gzip.write(
                self._file("WFC3PSF/ibzz99zzq_1_F606W_flt_cutout.fits", self._fitscut.static(51, 51))
            )
        if self._kind == "bundle_evil" and fault is not None and fault.form == "huge":
            huge = entry(f"{self.root}/WFC3PSF/huge_cutout.fits", _TERABYTE, self._mtime_s)
            yield self._gzip.write(huge + b"\0" * 1_000_000)
            return
        if self._settings.bundle_manifest == "last":
            yield self._manifest()
        if "bundle_no_end" not in self._odd:
            yield self._gzip.write(END)

    def _is_cut(self, index: int) -> bool:
        fault = self._fault
        if fault is None or self._kind != "bundle_cut":
            return False
        at = 0.5 if fault.at is None else fault.at
        return at < 1 and index >= at * len(self._members)

    def _packed(self, member: Member) -> bytes:
        """Write a member in static mode: its bytes were compressed before."""
        try:
            order = parse_uri(member.uri)
            body = self._fitscut.cutout(order)
        except FitscutError:
            return self._member(member)
        self._statuses[member.uri] = "OK"
        head = entry(f"{self.root}/{member.path}", len(body), self._mtime_s)
        return self._gzip.write_packed(head, _packed_once(body, self._settings.bundle_level))

    def _member(self, member: Member) -> bytes:
        if member.uri in self._hit and self._kind == "bundle_drop":
            self._statuses[member.uri] = self._settings.bundle_failed_word
            return b""
        body = self._body(member)
        if body is None:
            return b""
        written = self._file(member.path, body)
        if member.uri in self._hit and self._kind == "bundle_double":
            written += written
        return self._gzip.write(written, counted=self._unchanged(member))

    def _unchanged(self, member: Member) -> bytes | None:
        """Give what the checksum is made of where a member is changed on the way, not by the archive."""
        if member.uri not in self._hit or self._fault is None or self._fault.form != "pixel":
            return None
        return self._file(member.path, self._fitscut.render(member.uri))

    def _body(self, member: Member) -> bytes | None:
        """Give a member's bytes; None where it is left out."""
        try:
            body = self._fitscut.render(member.uri)
            if member.uri in self._hit and self._kind == "bundle_corrupt" and self._fault is not None:
                body = self._damaged(member, body, self._fault.form or "cut")
        except FitscutError as error:
            self._statuses[member.uri] = self._settings.bundle_failed_word
            failed = {"absent": None, "empty": b"", "error": error.text.encode()}
            return failed[self._settings.bundle_failed]
        self._statuses[member.uri] = "OK"
        return body

    def _damaged(self, member: Member, body: bytes, form: str) -> bytes:
        if form == "shape":
            return self._fitscut.reshaped(member.uri, None)
        if form == "source":
            return self._fitscut.other(member.uri)
        return _DAMAGED[form](body)

    def _file(self, path: str, body: bytes) -> bytes:
        self._n_members += 1
        name = transport.member_path(self.root, path, self._n_members, self._odd)
        return entry(name, len(body), self._mtime_s) + padded(body)

    def _manifest(self) -> bytes:
        if self._settings.bundle_manifest == "first":
            self._foresee()
        rows = "".join(
            _ROW.format(
                uri=html.escape(member.uri),
                file=html.escape(member.path),
                status=self._statuses.get(member.uri, self._settings.bundle_failed_word),
            )
            for member in self._members
        )
        page = _MANIFEST.format(root=self.root, n=len(self._members), rows=rows)
        return self._gzip.write(self._file("MANIFEST.HTML", page.encode()))

    def _foresee(self) -> None:
        for member in self._members:
            try:
                self._fitscut.check(member.uri)
            except FitscutError:
                self._statuses[member.uri] = self._settings.bundle_failed_word
            else:
                self._statuses[member.uri] = "OK"

    def _evil(self) -> bytes:
        """Give a member that a careless client would follow out of its folder."""
        form = (self._fault and self._fault.form) or "parent"
        first = self._members[0].path if self._members else "WFC3PSF/evil_cutout.fits"
        folder = first.split("/", 1)[0]
        files = {
            "absolute": "/tmp/psfharvest-evil/evil_cutout.fits",  # noqa: S108 - where a victim would write
            "parent": f"{self.root}/{folder}/../../../psfharvest-evil_cutout.fits",
            "nul": f"{self.root}/{folder}/NUL.fits",
        }
        special = {
            "link": (f"{self.root}/{folder}", b"2", "/tmp"),  # noqa: S108 - the same
            "hardlink": (f"{self.root}/{first}", b"1", "/etc/passwd"),
            "device": (f"{self.root}/{first}", b"3", ""),
            "fifo": (f"{self.root}/{first}", b"6", ""),
        }
        if form in files:
            return entry(files[form], 6, self._mtime_s) + padded(b"evil!\n")
        if form in special:
            name, kind, link = special[form]
            return entry(name, 0, self._mtime_s, kind=kind, link=link)
        return b""  # the huge one comes last


@lru_cache(maxsize=16)
def _packed_once(body: bytes, level: int) -> Packed:
    return packed(padded(body), level)


_DAMAGED: Final[dict[str, Callable[[bytes], bytes]]] = {
    "cut": lambda body: body[: len(body) // 2],
    "html": lambda _: _PAGE,
    "text": lambda _: b"Timeout Expired.\n",
    "empty": lambda _: b"",
    "bits": lambda body: body[:200] + bytes(255 - byte for byte in body[200:400]) + body[400:],
    "long": lambda body: body + b"and more",
    "pixel": lambda body: body[:-2_000] + bytes([255 - body[-2_000]]) + body[-1_999:],
}
_MANIFEST: Final = """<!DOCTYPE html>
<html>
    <head>
        <title>{root}</title>
    </head>
    <body>
        <h2>Manifest for File: {root}</h2>
        <h3>Total Files: {n}</h3>
        <table cellspacing="0" cellpadding="4" rules="all" style="border-width:5px; border-style:solid; \
border-collapse:collapse;">
            <tr>
                <td><b>URI</b></td>
                <td><b>File</b></td>
                <td><b>Access</b></td>
                <td><b>Status</b></td>
                <td><b>Logged In User</b></td>
            </tr>
{rows}        </table>
    </body>
</html>
"""
_ROW: Final = """            <tr>
                <td>{uri}</td>
                <td>{file}</td>
                <td>PUBLIC</td>
                <td>{status}</td>
                <td>anonymous</td>
            </tr>
"""
