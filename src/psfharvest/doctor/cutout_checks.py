"""Checks of single cutouts: header, shape, pixels, edges, and what stands where there is no cutout."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from psfharvest.core.catalog.criterion import AnyOf, Between, Criterion
from psfharvest.core.catalog.detectors import AXIS_LENGTHS, DETECTORS, Detector
from psfharvest.core.errors import BadURI
from psfharvest.core.fits import accepted_deviations, datauri, filekinds, fitscheck, keys, names, pixels
from psfharvest.core.fits.datauri import CutoutURI
from psfharvest.core.model import Item
from psfharvest.doctor.check import EXPECTED, CheckResult, adapted, expected, of_deviations, report
from psfharvest.doctor.reply import Reply
from psfharvest.doctor.visit import Visit, named_rows

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

MAX_OFFSET_PX = 1.5
SEARCHED_PX = 6
"""The star is looked for so far around the centre."""
_NOT_THERE = frozenset({404, 410})


async def by_file(visit: Visit, detector: Detector, suffix: str) -> CheckResult:
    """Get one star by file: whole, of the asked shape, named, and in the centre."""
    return await _star(visit, lambda: visit.uri(detector, suffix), f"no {detector.name} source to ask for")


async def data_url(visit: Visit) -> CheckResult:
    """Get the same star at its dataURL, and compare the pixels."""
    uri = visit.uri(visit.main, visit.main.calibrated_suffix)
    if uri is None:
        return report("no source to ask for", None)
    url = visit.requester.endpoints.quoted_data_url(str(uri))
    reply = await visit.get(url, is_for_archive=False)
    if not reply.is_success:
        return report(f"{reply.trouble}: --via fitscut will not work", reply)
    first = visit.bodies.get(str(uri))
    if first is None:
        return _judge(visit, uri, reply)
    if _is_same_image(first, reply.body, uri):
        words = "the same bytes" if first == reply.body else "the same pixels"
        return expected(f"{words} as by file", reply)
    return report("other pixels than by file", reply)


async def chip_1(visit: Visit) -> CheckResult:
    """Get a star on chip 1 of a UVIS full frame, which is in extension 4."""
    detector = DETECTORS["UVIS"]
    sample = [row for row in visit.rows.get("UVIS", []) if _is_on_chip_1(row)]
    if not sample:
        full_frame: list[Criterion] = [AnyOf("chip", ("1",)), AnyOf("subarray", ("0",))]
        criteria = [*full_frame, Between("psf_x_center", 2000, 2001)]
        answer = await visit.ask(detector, "*", criteria, page_rows=10)
        sample = named_rows(answer.parsed) if answer.parsed else []
        if not sample:
            return report(answer.error or "no source on chip 1", answer.reply)

    def choose() -> CutoutURI | None:
        row = visit.star(detector, sample)
        return None if row is None else datauri.build_checked(row, detector, "flt")

    finding = await _star(visit, choose, "no source on chip 1 from which a dataURI can be made")
    reply = finding.reply
    if finding.verdict == EXPECTED and reply is not None and _card(reply.body, "CCDCHIP") not in ("", "1"):
        return report(f"extension 4 is of chip {_card(reply.body, 'CCDCHIP')}", reply)
    return finding


async def near_edge(visit: Visit) -> CheckResult:
    """Get a cutout whose centre is five pixels from the detector's edge."""
    uri = visit.uri(visit.main, visit.main.calibrated_suffix, x="5.0")
    if uri is None:
        return report("no source to ask for", None)
    reply = await visit.get(visit.requester.endpoints.file_url(str(uri)))
    return _judge(visit, uri, reply)


async def off_detector(visit: Visit) -> CheckResult:
    """Ask for a cutout wholly outside the detector."""
    uri = visit.uri(visit.main, visit.main.calibrated_suffix, x="-5000.0")
    if uri is None:
        return report("no source to ask for", None)
    reply = await visit.get(visit.requester.endpoints.file_url(str(uri)))
    if reply.failure is not None:
        return report(reply.trouble, reply)
    if fitscheck.OFF_DETECTOR_TEXT in reply.body[:8192]:
        return expected(f"it says so, with status {reply.status}", reply)
    return _no_cutout(visit, reply, "off the detector")


async def made_up(visit: Visit) -> CheckResult:
    """Ask for an exposure that does not exist."""
    uri = visit.uri(visit.main, visit.main.calibrated_suffix, rootname=visit.main.absent_rootname)
    if uri is None:
        return report("no source to ask for", None)
    reply = await visit.get(visit.requester.endpoints.file_url(str(uri)))
    return _no_cutout(visit, reply, "an exposure that does not exist")


async def no_product(visit: Visit) -> CheckResult:
    """Ask for a product that an exposure does not have: the flc of an IR exposure."""
    uri = visit.uri(DETECTORS["IR"], "flt")
    if uri is None:
        return report("no IR source to ask for", None)
    reply = await visit.get(visit.requester.endpoints.file_url(str(uri._replace(suffix="flc"))))
    return _no_cutout(visit, reply, "a product that does not exist")


async def twice(visit: Visit) -> CheckResult:
    """Get the same cutout again, and compare the bytes."""
    uri = visit.uri(visit.main, visit.main.calibrated_suffix)
    first = visit.bodies.get(str(uri))
    if uri is None or first is None:
        return report("no cutout to get again", None)
    reply = await visit.get(visit.requester.endpoints.file_url(str(uri)))
    if not reply.is_success:
        return report(reply.trouble, reply)
    visit.seconds["file"] = min(visit.seconds.get("file", reply.elapsed_s), reply.elapsed_s)
    if reply.body == first:
        return expected("byte for byte the same", reply)
    if _is_same_image(first, reply.body, uri):
        return adapted("the same pixels, but other bytes: a repeated download is no copy", reply)
    return report("other pixels the second time", reply)


def item_of(uri: CutoutURI) -> Item:
    """Return what a harvest would check a body against."""
    text = str(uri)
    return Item(0, text, keys.key_of(text, uri), uri.size_px, uri.rootname)


async def _star(visit: Visit, choose: Callable[[], CutoutURI | None], none: str) -> CheckResult:
    """Get a star; where its exposure has no such product, one of another exposure."""
    uri = choose()
    if uri is None:
        return report(none, None)
    finding = await _got(visit, uri)
    if str(uri) in visit.bodies:
        return finding
    visit.unserved.add(uri.rootname)
    other = choose()
    if other is None or other.rootname == uri.rootname:
        return finding
    again = await _got(visit, other)
    if str(other) not in visit.bodies:
        visit.unserved.discard(uri.rootname)
        return finding
    if again.verdict != EXPECTED:
        return again
    return adapted(f"{uri.rootname} has no {uri.suffix} ({finding.words}), other exposures have", finding.reply)


async def _got(visit: Visit, uri: CutoutURI) -> CheckResult:
    """Get a star, and look whether it is in the centre."""
    reply = await visit.get(visit.requester.endpoints.file_url(str(uri)))
    finding = await anyio.to_thread.run_sync(partial(_judge, visit, uri, reply, is_centred=True))
    if str(uri) in visit.bodies:
        visit.seconds.setdefault("file", reply.elapsed_s)
    return finding


def _judge(visit: Visit, uri: CutoutURI, reply: Reply, *, is_centred: bool = False) -> CheckResult:
    if not reply.is_success:
        return report(reply.trouble, reply)
    flaw, quirk = filekinds.verdict(item_of(uri), reply.body, names.DIFFERENCES)
    if flaw is not None:
        passing = flaw.reason.value in accepted_deviations.STORED
        words = f"{flaw.reason}: {flaw.detail}{f' (--accept {flaw.reason})' if passing else ''}"
        return report(reply.shown(words), reply)
    visit.names.append(quirk if quirk in names.DIFFERENCES else "")
    visit.bodies[str(uri)] = reply.body
    header, image = pixels.parts(reply.body, uri)
    if image is None:
        return report("no image", reply)
    if is_centred and (words := _misplaced(image, uri)):
        return report(words, reply)
    if quirk and quirk not in visit.learnt.quirks:
        visit.learnt.quirks.append(quirk)
    deviations = [*_transport_deviations(reply), *_file_deviations(header, quirk)]
    edge = "" if quirk else _edge_words(uri, image)
    words = f"{image.shape[1]} x {image.shape[0]} pixels, {len(reply.body):,} bytes in {reply.elapsed_s:.2f} s"
    return of_deviations(deviations, words + edge, reply)


def _file_deviations(header: str, quirk: str) -> list[str]:
    deviations = [f"quirk {quirk}: stored as it comes"] if quirk else []
    if quirk in names.DIFFERENCES:
        deviations = [f"{names.DIFFERENCES[quirk]}: accepted as {quirk} where all cutouts have it"]
    if "XTENSION" in header[:8] and quirk != "tile_compressed":
        deviations.append("the image is in an extension")
    if not any(f"{name:<8}=" in header for name in ("ROOTNAME", "EXPNAME")):
        deviations.append("no ROOTNAME and no EXPNAME: a wrong exposure cannot be recognised")
    return deviations


def _transport_deviations(reply: Reply) -> list[str]:
    deviations = []
    if reply.status != 200:
        deviations.append(f"status {reply.status} with a whole cutout")
    if reply.n_redirects:
        deviations.append(f"{reply.n_redirects} redirects lead to it")
    if reply.header("content-encoding") not in ("", "identity"):
        deviations.append(f"content-encoding {reply.header('content-encoding')}, which was not asked for")
    if reply.http_version == "HTTP/1.0":
        deviations.append("HTTP/1.0: its length is not known")
    return deviations


def _no_cutout(visit: Visit, reply: Reply, what: str) -> CheckResult:
    if reply.failure is not None:
        return report(reply.trouble, reply)
    words = reply.shown(fitscheck.error_text(reply.body))
    if reply.status in _NOT_THERE:
        return expected(f"status {reply.status}", reply)
    if reply.is_success and reply.body.startswith(b"SIMPLE  ="):
        return report(f"a FITS file for {what}", reply)
    visit.learnt.no_product = {"status": reply.status, "text": words[:200]}
    return adapted(f"status {reply.status} for {what}, and the words {words[:100]!r}", reply)


def _misplaced(image: NDArray[float32], uri: CutoutURI) -> str:
    """Return what is wrong with the place of the star, or nothing."""
    import numpy as np  # noqa: PLC0415 - heavy

    center = uri.center
    if center is None:
        return "its coordinates are no numbers"
    x0, y0 = round(center[0]), round(center[1])
    box = image[y0 - SEARCHED_PX : y0 + SEARCHED_PX + 1, x0 - SEARCHED_PX : x0 + SEARCHED_PX + 1]
    if not np.isfinite(box).any():
        return "no finite pixel around the star's place"
    light = np.nan_to_num(box - np.nanmedian(image), nan=0.0, posinf=0.0, neginf=0.0)
    padded = np.pad(light, 1)
    ny, nx = light.shape
    smooth = sum(padded[dy : dy + ny, dx : dx + nx] for dy in range(3) for dx in range(3))
    y, x = np.unravel_index(np.argmax(smooth), light.shape)
    distance = math.hypot(x + x0 - SEARCHED_PX - center[0], y + y0 - SEARCHED_PX - center[1])
    return f"the star is {distance:.1f} px from its place" if distance > MAX_OFFSET_PX else ""


def _edge_words(uri: CutoutURI, image: NDArray[float32]) -> str:
    import numpy as np  # noqa: PLC0415 - heavy

    first = math.floor(float(uri.x) - uri.size_px // 2 + 0.5)
    if first >= 0 or uri.instrument not in AXIS_LENGTHS:
        return ""
    beyond = image[:, :-first]
    return ", NaN beyond the edge" if np.isnan(beyond).all() else ", numbers beyond the edge"


def _is_same_image(first: bytes, second: bytes, uri: CutoutURI) -> bool:
    import numpy as np  # noqa: PLC0415 - heavy

    a, b = pixels.image(first, uri), pixels.image(second, uri)
    return a is not None and b is not None and np.array_equal(a, b, equal_nan=True)


def _is_on_chip_1(row: Mapping[str, Any]) -> bool:
    try:
        uri = datauri.build_checked(row, DETECTORS["UVIS"], "flt")
        return uri.extension == 4 and 60 < float(uri.x) < 4036 and 60 < float(uri.y) < 1990
    except (BadURI, ValueError):
        return False


def _card(body: bytes, keyword: str) -> str:
    units = fitscheck.walk(body) if body.startswith(b"SIMPLE  =") else None
    unit = fitscheck.first_image(units) if isinstance(units, list) else None
    number = None if unit is None else fitscheck.integer(unit.header, f"{keyword:<8s}".encode())
    return "" if number is None else str(number)
