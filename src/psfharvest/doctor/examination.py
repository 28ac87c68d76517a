"""Runs the checks against one archive, and sums up what they mean for a harvest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import anyio

from psfharvest.archive.endpoints import Endpoints
from psfharvest.core.catalog.detectors import Detector
from psfharvest.core.catalog.learnt import Learnt
from psfharvest.core.errors import ArchiveDown
from psfharvest.core.fits import names
from psfharvest.core.model import Evidence, Limits
from psfharvest.doctor.check import ADAPTED, EXPECTED, REPORT, Check, CheckResult, report
from psfharvest.doctor.requester import PER_SECOND, Requester
from psfharvest.doctor.table import CUTOUTS, FIRST, QUERIES, CheckEntry
from psfharvest.doctor.visit import Visit
from psfharvest.version import __version__

BUDGET_S, QUICK_BUDGET_S = 115.0, 18.0
NAMES_MIN = 3
"""Cutouts whose headers name the exposure in the same other way, before later runs accept that."""
N_DEAD = 3
"""Requests without one answer that makes sense, after which the archive is taken to be down."""


class Diagnosis(NamedTuple):
    """The checks that were made, and what was learnt."""

    archive: str
    checks: tuple[Check, ...]
    learnt: Learnt
    seconds: dict[str, float]

    @property
    def exit_status(self) -> int:
        """0 when all is as expected, else 3."""
        return 0 if all(check.finding.verdict == EXPECTED for check in self.checks) else 3

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as plain values for JSON."""
        return {
            "archive": self.archive,
            "version": __version__,
            "checks": [check.to_dict() for check in self.checks],
            "learnt": self.learnt.to_dict(),
        }

    def meaning(self) -> str:
        """Return what this means for a harvest, in two sentences."""
        names = {v: [c.name for c in self.checks if c.finding.verdict == v] for v in (ADAPTED, REPORT)}
        if names[REPORT]:
            wrong = ", ".join(names[REPORT])
            first = f"A harvest may refuse or lose cutouts ({wrong}): please report it, with the file of -o."
        elif names[ADAPTED]:
            first = f"A harvest works; psfharvest adapts to what differs ({', '.join(names[ADAPTED])})."
        else:
            first = "A harvest works: this archive is as psfharvest expects it."
        return f"{first} {self._pace()}"

    def _pace(self) -> str:
        single, bundled = self.seconds.get("file"), self.seconds.get("bundle")
        if single is None:
            return "How fast cutouts come could not be measured."
        n = Limits().connections(is_public=True)
        per_s = n / max(single, 1e-3)
        words = f"By file a cutout took {single:.2f} s, about {per_s:,.0f} a second over {n} connections"
        if self.learnt.bundles is False:
            return f"{words}; bundles cannot be used."
        return f"{words}; in a bundle {bundled:.3f} s." if bundled is not None else f"{words}."


async def examine(
    endpoints: Endpoints,
    detectors: Sequence[Detector],
    *,
    is_quick: bool = False,
    per_second: float = PER_SECOND,
    timeout_s: float = 30.0,
    on_check: Callable[[Check], None] | None = None,
) -> Diagnosis:
    """
    Check an archive.

    Parameters
    ----------
    endpoints, detectors
        Which archive, and which databases of it; what is not about one is tried on the first.
    is_quick
        Whether only the checks that matter most are made.
    per_second
        How many requests are started per second.
    timeout_s
        Without a byte.
    on_check
        Called after each check.

    Raises
    ------
    ArchiveDown
        When it is out of reach, or answers nothing that makes sense.
    """
    requester = Requester(endpoints, per_second=per_second, timeout_s=timeout_s)
    visit = Visit(requester, detectors, Learnt())
    made: dict[str, Check] = {}
    ends_at = anyio.current_time() + (QUICK_BUDGET_S if is_quick else BUDGET_S)
    chosen = {detector.name for detector in detectors}

    async def run(entries: Sequence[CheckEntry]) -> None:
        for entry in entries:
            if (is_quick and not entry.is_quick) or (entry.only and entry.only not in chosen):
                continue
            finding = await _made(entry, visit, ends_at)
            made[entry.name] = Check(entry.name, finding)
            _check_alive(visit, finding)
            if on_check is not None:
                on_check(made[entry.name])

    try:
        await run(FIRST)
        async with anyio.create_task_group() as group:
            group.start_soon(run, QUERIES)
            group.start_soon(run, CUTOUTS)
    except* ArchiveDown as errors:
        raise errors.exceptions[0] from None
    finally:
        await requester.aclose()
    if len(visit.names) < NAMES_MIN or len(set(visit.names)) > 1:  # not the archive's own way to write them
        visit.learnt.quirks = [quirk for quirk in visit.learnt.quirks if quirk not in names.DIFFERENCES]
    visit.learnt.seconds = {name: round(seconds, 4) for name, seconds in visit.seconds.items()}
    order = [entry.name for entry in (*FIRST, *QUERIES, *CUTOUTS)]
    checks = tuple(made[name] for name in order if name in made)
    return Diagnosis(endpoints.root, checks, visit.learnt, visit.seconds)


async def _made(entry: CheckEntry, visit: Visit, ends_at: float) -> CheckResult:
    left_s = ends_at - anyio.current_time()
    with anyio.move_on_after(max(0.0, left_s)):
        return await entry.check(visit)
    return report("no time was left: the archive is slow", None)


def _check_alive(visit: Visit, finding: CheckResult) -> None:
    """Raise `ArchiveDown` when no answer has made sense so far."""
    if visit.n_live:
        return
    reply = finding.reply
    if reply is None or reply.is_success:
        return
    is_out_of_reach = reply.failure is not None and reply.failure.evidence is Evidence.UNREACHABLE
    if is_out_of_reach or visit.requester.n_sent >= N_DEAD:
        root = visit.requester.endpoints.root
        words = f"{root} is out of reach: {reply.trouble}"
        if not is_out_of_reach:
            words = (
                f"{root} gives no answer that makes sense: {reply.trouble} for {visit.requester.n_sent} requests"
            )
        raise ArchiveDown(words, uri=root, reason="archive_down")
