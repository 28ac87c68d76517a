"""Scheduler plugin: grants the workers their shares of each archive's connections, and collects their progress."""

from __future__ import annotations

import time
from typing import Any

from distributed import Scheduler, SchedulerPlugin

from psfharvest.cluster.shares import TTL_S, Asking, Shares

HANDLER = "psfharvest_board"


class Board(SchedulerPlugin):
    """
    Scheduler plugin with the handler `HANDLER`; its state may be lost with the scheduler.

    Parameters
    ----------
    ttl_s
        See `psfharvest.cluster.shares.TTL_S`.
    is_first
        Whether no holder can be left of an earlier scheduler: the cluster was made for this harvest.
    """

    name = "psfharvest-board"
    idempotent = True

    def __init__(self, ttl_s: float = TTL_S, *, is_first: bool = False) -> None:
        self._ttl_s = ttl_s
        self._grants_from = 0.0
        self._is_first = is_first
        self._shares: dict[str, Shares] = {}
        self._come: dict[str, dict[str, int]] = {}
        self._scheduler: Scheduler | None = None

    async def start(self, scheduler: Scheduler) -> None:
        """Register the handler on a scheduler."""
        self._grants_from = time.monotonic() + (0.0 if self._is_first else self._ttl_s)
        self._scheduler = scheduler
        scheduler.handlers[HANDLER] = self.handle

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """Free the connections of a lost worker, `ttl_s` from now."""
        del scheduler
        self._lose(worker)

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Free the connection of a lost head, `ttl_s` from now."""
        del scheduler
        self._lose(client)

    def handle(self, word: str, archive: str, **said: Any) -> dict[str, Any]:
        """
        Answer one message.

        ``open`` names an archive's ceiling and rate, ``ask`` is a holder's, ``stop`` ends the holders of a folder,
        ``look`` returns the cluster's threads and the progress of a folder's parts to a head.
        """
        shares = self._shares.setdefault(archive, Shares(0, self._grants_from, self._ttl_s))
        if word == "open":
            shares.ceiling, shares.per_second = said["ceiling"], said["per_second"]
        elif word == "stop":
            shares.stop(said["folder"])
        elif word == "look":
            come = {part: n for part, n in self._come.items() if part.startswith(said["folder"])}
            threads = self._scheduler.total_nthreads if self._scheduler is not None else 0
            return {"threads": threads, "come": come, "in_use": shares.in_use}
        else:
            come = said.pop("come", None)
            asking = Asking(**said)
            if come is not None:
                self._come[asking.part] = come
            if asking.is_done:
                self._come.pop(asking.part, None)
            return shares.ask(asking, time.monotonic())._asdict()
        return {}

    def _lose(self, process: str) -> None:
        for shares in self._shares.values():
            shares.lose_worker(process, time.monotonic())
