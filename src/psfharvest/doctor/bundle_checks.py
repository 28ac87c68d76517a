"""Checks of bundles: layout, names, members left out, and how fast they come."""

from __future__ import annotations

import io
import tarfile
import zlib
from typing import NamedTuple

import anyio.to_thread

from psfharvest.core.catalog.detectors import Detector
from psfharvest.core.errors import BadURI
from psfharvest.core.fits import datauri, filekinds, names
from psfharvest.core.fits.datauri import CutoutURI
from psfharvest.doctor.check import CheckResult, adapted, of_deviations, report
from psfharvest.doctor.cutout_checks import item_of
from psfharvest.doctor.reply import Reply
from psfharvest.doctor.visit import Visit

N_SMALL, N_LARGE = 6, 100
MAX_TAR_BYTES = 256 * 2**20
PAGE = "MANIFEST.HTML"
SINGLY = "cutouts travel by file instead"


class Unpacked(NamedTuple):
    """The members of a bundle, and what of its form is not as expected."""

    members: dict[str, bytes]
    deviations: list[str]


async def small_bundle(visit: Visit) -> CheckResult:
    """Get five cutouts and one of an exposure that does not exist as a bundle."""
    uris = _uris(visit, N_SMALL - 1)
    if not uris:
        return report("no source to ask for", None)
    absent = uris[0]._replace(rootname=visit.main.absent_rootname)
    reply = await _bundle(visit, [*uris, absent])
    unpacked = await anyio.to_thread.run_sync(_unpack, reply)
    if isinstance(unpacked, str):
        visit.learnt.bundles = False
        return adapted(f"{unpacked}: {SINGLY}", reply)
    lost = _lost(uris, unpacked)
    if len(lost) == len(uris):
        visit.learnt.bundles = False
        others = ", ".join(sorted(name for name in unpacked.members if PAGE not in name)[:2])
        return adapted(
            f"{len(lost)} of {len(uris)} cutouts are not in it ({others or 'it is empty'}): {SINGLY}", reply
        )
    deviations = [*unpacked.deviations, *_absent_deviations(absent, unpacked)]
    deviations += [f"{len(lost)} of {len(uris)} cutouts are not in it: they travel by file"] if lost else []
    came = [uri for uri in uris if uri not in lost]
    if (words := _differs_from_file(visit, came, unpacked)) is not None:
        return report(words, reply)
    visit.learnt.bundles = True
    words = f"{len(came)} members, the first byte after {reply.first_byte_s:.2f} s"
    return of_deviations(deviations, words, reply)


async def large_bundle(visit: Visit) -> CheckResult:
    """Get a hundred cutouts as a bundle, timed."""
    uris = _uris(visit, N_LARGE)
    if not uris:
        return report("no source to ask for", None)
    if visit.learnt.bundles is False:
        return adapted(f"not asked for: no bundle came before; {SINGLY}", None)
    reply = await _bundle(visit, uris)
    unpacked = await anyio.to_thread.run_sync(_unpack, reply)
    if isinstance(unpacked, str):
        return adapted(f"{unpacked}: {SINGLY}, or in smaller bundles", reply)
    lost = _lost(uris, unpacked)
    n_good = len(uris) - len(lost)
    if lost:
        return adapted(f"{len(lost)} of {len(uris)} cutouts are not in it: they travel by file", reply)
    visit.seconds["bundle"] = reply.elapsed_s / n_good
    words = f"{n_good} cutouts in {reply.elapsed_s:.1f} s ({n_good / max(reply.elapsed_s, 1e-3):,.0f} a second)"
    return of_deviations(unpacked.deviations, words, reply)


def _uris(visit: Visit, n: int) -> list[CutoutURI]:
    """Return dataURIs of the main database: the star of the other checks first, then others of the sample."""
    detector: Detector = visit.main
    suffix = detector.calibrated_suffix
    first = visit.uri(detector, suffix)
    found: dict[str, CutoutURI] = {} if first is None else {first.file_name: first}
    for row in [*visit.rows.get(detector.name, []), *visit.six]:
        try:
            uri = datauri.build_checked(row, detector, suffix)
        except BadURI:
            continue
        found.setdefault(uri.file_name, uri)
        if len(found) == n:
            break
    return list(found.values())


async def _bundle(visit: Visit, uris: list[CutoutURI]) -> Reply:
    form = [("uri", str(uri)) for uri in uris]
    reply = await visit.requester.post(visit.requester.endpoints.bundle_url, form)
    visit.n_live += reply.is_success
    return reply


def _unpack(reply: Reply) -> Unpacked | str:
    """Return what a bundle holds, or why nothing could be read."""
    if not reply.is_success:
        return reply.trouble
    deviations = [f"{reply.n_redirects} redirects lead to it"] if reply.n_redirects else []
    raw = reply.body
    if raw.startswith(b"\x1f\x8b"):
        inflater = zlib.decompressobj(31)
        try:
            raw = inflater.decompress(raw, MAX_TAR_BYTES)
        except zlib.error as error:
            return f"no gzip stream: {error}"
        if not inflater.eof:
            return "the gzip stream has no end"
    else:
        deviations.append("the tar is not compressed")
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
            infos = tar.getmembers()
            members = {info.name: _content(tar, info) for info in infos if info.isfile()}
    except (tarfile.TarError, EOFError, OSError) as error:
        return f"no tar: {error}"
    if not infos:
        return "an empty tar"
    return Unpacked(members, deviations + _form_deviations(infos, raw))


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(info)
    return b"" if file is None else file.read()


def _form_deviations(infos: list[tarfile.TarInfo], raw: bytes) -> list[str]:
    """Return how a tar's form differs from that of recorded bundles."""
    deviations = []
    if not infos[0].isdir():
        deviations.append(f"the first member is no folder but {infos[0].name[:80]!r}")
    if any(info.name.startswith("./") for info in infos):
        deviations.append("names begin with './'")
    if any(info.pax_headers for info in infos):
        deviations.append("the tar has pax headers")
    if not raw.endswith(bytes(1024)):
        deviations.append("the tar has no end blocks: its last member is got by file")
    files = [info.name for info in infos if info.isfile() and PAGE not in info.name]
    depths = {name.removeprefix("./").count("/") for name in files} - {2}
    if depths:
        deviations.append(f"cutouts stand {', '.join(map(str, sorted(depths)))} folders deep, not 2")
    return deviations


def _by_name(unpacked: Unpacked) -> dict[str, bytes]:
    return {name.rpartition("/")[2]: body for name, body in unpacked.members.items()}


def _lost(uris: list[CutoutURI], unpacked: Unpacked) -> list[CutoutURI]:
    found = _by_name(unpacked)
    return [
        uri
        for uri in uris
        if uri.file_name not in found
        or filekinds.verdict(item_of(uri), found[uri.file_name], names.DIFFERENCES).flaw is not None
    ]


def _absent_deviations(absent: CutoutURI, unpacked: Unpacked) -> list[str]:
    body = _by_name(unpacked).get(absent.file_name)
    if body is None:
        return []
    what = "an empty member" if not body else f"a member of {len(body)} bytes"
    return [f"a cutout that does not exist is {what}: it is refused, and asked for by file"]


def _differs_from_file(visit: Visit, uris: list[CutoutURI], unpacked: Unpacked) -> str | None:
    found = _by_name(unpacked)
    for uri in uris:
        alone = visit.bodies.get(str(uri))
        if alone is not None and found[uri.file_name] != alone:
            return "a cutout in a bundle has other bytes than by file"
    return None
