"""How a run goes on, as a record in the manifest that ``status`` reads from another process."""

from __future__ import annotations

import json
import os
import time
from collections import deque

from psfharvest.core.model import Progress

WINDOW_S = 30.0
EVERY_S = 2.0
"""How often the record is written."""


class LiveRecord:
    """
    Rate, time left and outage of a run.

    Parameters
    ----------
    patience_s
        How long an outage may last.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._seen: deque[tuple[float, int]] = deque()

    def text(self, progress: Progress, now_s: float) -> str:
        """Return the record as JSON at a moment of the wall clock."""
        settled = progress.tally.total - progress.tally.pending
        received = settled + progress.arrived
        self._seen.append((progress.elapsed_s, received))
        while len(self._seen) > 2 and progress.elapsed_s - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()
        begun_s, before = self._seen[0]
        passed_s = progress.elapsed_s - begun_s
        per_second = max(0, received - before) / passed_s if passed_s > 0 else 0.0
        to_come = max(progress.expected or 0, progress.tally.total) - received
        is_known = per_second > 0 and not progress.outage
        plain = {
            "pid": os.getpid(),
            "per_second": round(per_second, 3),
            "left_s": round(to_come / per_second, 1) if is_known else None,
            "connections": progress.connections,
            "in_flight": progress.in_flight,
            "outage": progress.outage,
        }
        if progress.outage:
            since_s = now_s - progress.outage_s
            plain |= {"outage_since": _iso(since_s), "gives_up_at": _iso(since_s + self._patience_s)}
        return json.dumps(plain)


def _iso(epoch_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(epoch_s))
