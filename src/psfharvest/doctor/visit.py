"""One visit of an archive: what its checks share, such as stars to ask for and bodies to compare."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import anyio.to_thread

from psfharvest.archive.catalog import answer as answers
from psfharvest.archive.catalog.rows import Unreadable
from psfharvest.core.catalog.criterion import Criterion
from psfharvest.core.catalog.detectors import Detector
from psfharvest.core.catalog.learnt import Learnt
from psfharvest.core.errors import BadURI
from psfharvest.core.fits import datauri
from psfharvest.core.fits.datauri import CutoutURI
from psfharvest.doctor.reply import Reply
from psfharvest.doctor.requester import Requester

COUNT = "COUNT_BIG(*)"
MAX_POLLS = 8
EDGE_PX = 60
"""A star for the checks of pixels is at least so far from an edge."""


class QueryReply(NamedTuple):
    """The answer to a query: its JSON, as parsed and as it came, or the words of an error."""

    reply: Reply
    parsed: dict[str, Any] | None = None
    plain: dict[str, Any] | None = None
    error: str = ""
    is_refusal: bool = False
    """True where the archive answered, in words, that it cannot."""

    @property
    def deviations(self) -> list[str]:
        """What of the frame of an answer is not as expected."""
        status = (self.plain or {}).get("status")
        return [] if status == "COMPLETE" else [f"the status is {status!r} instead of 'COMPLETE'"]


class Visit:
    """
    What the checks of one archive share.

    Parameters
    ----------
    requester, detectors, learnt
        What sends, which databases, and where is noted what a later run can use.
    """

    def __init__(self, requester: Requester, detectors: Sequence[Detector], learnt: Learnt) -> None:
        self.requester = requester
        self.detectors = tuple(detectors)
        self.main = self.detectors[0]
        self.learnt = learnt
        self.rows: dict[str, list[dict[str, Any]]] = {}
        """Some rows of each database."""
        self.six: list[dict[str, Any]] = []
        """The rows of the published notebook's query, as far as they came."""
        self.n_six = 0
        self.large: tuple[list[dict[str, Any]], Reply] | None = None
        """The rows of the large page, and its answer."""
        self.bodies: dict[str, bytes] = {}
        """Good cutouts by dataURI."""
        self.names: list[str] = []
        """How the exposure's name in each good cutout differs from that asked for; nothing where it does not."""
        self.seconds: dict[str, float] = {}
        """What one cutout took, by ``file`` and by ``bundle``."""
        self.unserved: set[str] = set()
        """Exposures that turned out to have no product."""
        self.n_live = 0
        """Answers that show the archive to be alive."""

    async def ask(
        self, detector: Detector, columns: str, criteria: Sequence[Criterion], *, page_rows: int = 0
    ) -> QueryReply:
        """Send one question to the query service, and poll until it is answered."""
        payload: dict[str, Any] = {
            "service": detector.service,
            "params": {"columns": columns, "filters": [c.wire() for c in criteria]},
            "format": "json",
        }
        if page_rows:
            payload |= {"pagesize": page_rows, "page": 1}
        form = [("request", json.dumps(payload | {"cacheBreaker": str(uuid.uuid4())}))]
        for _ in range(MAX_POLLS):
            reply = await self.requester.post(self.requester.endpoints.invoke_url, form)
            answer = await anyio.to_thread.run_sync(_read, reply)
            if answer.parsed is None or answers.status_of(answer.parsed) != "EXECUTING":
                break
        else:
            answer = QueryReply(reply, error="it goes on executing")
        self.n_live += answer.parsed is not None
        return answer

    async def get(self, url: str, *, is_for_archive: bool = True) -> Reply:
        """Send a GET."""
        reply = await self.requester.get(url, is_for_archive=is_for_archive)
        self.n_live += reply.is_success
        return reply

    def uri(self, detector: Detector, suffix: str, **changes: Any) -> CutoutURI | None:
        """Return the dataURI of a star that is bright, unsaturated and far from edges; with changes to it."""
        row = self.star(detector)
        if row is None:
            return None
        try:
            return datauri.build_checked(row, detector, suffix)._replace(**changes)
        except BadURI:
            return None

    def star(self, detector: Detector, rows: Sequence[dict[str, Any]] = ()) -> dict[str, Any] | None:
        """Return the row of the brightest unsaturated star far from edges, of `rows` or the sample, or None."""
        among = rows or self.rows.get(detector.name, [])
        rows = [row for row in among if _is_buildable(row, detector)]
        rows = [row for row in rows if str(row["rootname"]).strip() not in self.unserved]
        good = [row for row in rows if _is_quiet(row, detector)]
        return max(good or rows, key=lambda row: _number(row, "psf_flux"), default=None)


def named_rows(parsed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    Return the rows of an answer as dicts.

    Raises
    ------
    Unreadable
        When there is no table in it.
    """
    rows = answers.catalogue_rows_of(parsed)
    return [dict(zip(rows.columns, values, strict=True)) for values in rows.values]


def _read(reply: Reply) -> QueryReply:
    if not reply.is_success:
        return QueryReply(reply, error=reply.trouble)
    try:
        parsed = answers.parse(reply.body)
        plain = json.loads(reply.body)
    except (Unreadable, ValueError) as error:
        return QueryReply(reply, error=reply.shown(str(error)))
    if answers.status_of(parsed) == "ERROR":
        return QueryReply(reply, error=reply.shown(str(parsed.get("msg"))[:300]), is_refusal=True)
    return QueryReply(reply, parsed, plain)


def _is_buildable(row: Mapping[str, Any], detector: Detector) -> bool:
    try:
        datauri.build_checked(row, detector, detector.suffixes[-1])
    except BadURI:
        return False
    return True


def _is_quiet(row: Mapping[str, Any], detector: Detector) -> bool:
    nx, ny = detector.full_frame_px, detector.chip_rows_px
    x, y = _number(row, "x_cal"), _number(row, "y_cal")
    is_within = EDGE_PX < x < nx - EDGE_PX and EDGE_PX < y < ny - EDGE_PX
    return is_within and _number(row, "qfit") > 0 and not _number(row, "n_sat_pixels")


def _number(row: Mapping[str, Any], name: str) -> float:
    try:
        number = float(row.get(name) or 0)
    except (TypeError, ValueError):
        return 0.0
    return number if number == number else 0.0  # noqa: PLR0124 - NaN
