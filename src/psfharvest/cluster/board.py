"""Scheduler plugin: grants the workers their shares of each archive's connections, and collects their progress."""

from __future__ import annotations

import time
from typing import Any

from distributed import Scheduler, SchedulerPlugin

from psfharvest.cluster.shares import GO, TTL_S, Asking, Shares

HANDLER = "psfharvest_board"
"""Of messages that are answered; also of those in a worker's own stream, which cannot be lost while it lives."""
NEWS = "psfharvest_news"
"""Message to workers: they ask at once."""


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
        self._come: dict[str, tuple[dict[str, int], str]] = {}
        self._asked_at: dict[str, float] = {}
        self._scheduler: Scheduler | None = None

    async def start(self, scheduler: Scheduler) -> None:
        """Register the handler on a scheduler."""
        self._grants_from = time.monotonic() + (0.0 if self._is_first else self._ttl_s)
        self._scheduler = scheduler
        scheduler.handlers[HANDLER] = self.handle
        scheduler.stream_handlers[HANDLER] = self.handle

    def handle(self, word: str, archive: str, **said: Any) -> dict[str, Any]:
        """
        Answer one message.

        ``ask`` is a holder's; ``look`` is a head's: it names the archive's ceiling and rate, and gets the cluster's
        threads, the progress of its tasks, and how long ago each of them has asked; ``stop`` ends their holders.
        """
        now = time.monotonic()
        shares = self._shares.setdefault(archive, Shares(0, self._grants_from, self._ttl_s))
        if word == "stop":
            shares.stop(said["folder"])
            return {}
        if word == "look":
            shares.ceiling, shares.per_second = said["ceiling"], said["per_second"]
            its = [one for part, one in self._come.items() if part.startswith(said["folder"])]
            threads = self._scheduler.total_nthreads if self._scheduler is not None else 0
            trouble = next((words for _, words in its if words), "")
            silent_s = {part: now - self._asked_at[part] for part in said["parts"] if part in self._asked_at}
            return {
                "threads": threads, "come": [n for n, _ in its], "trouble": trouble, "in_use": shares.in_use,
                "silent_s": silent_s,
            }  # fmt: skip
        come, trouble, process = said.pop("come"), said.pop("trouble"), said.pop("process")
        asking = Asking(**said)
        self._asked_at[asking.part] = now
        is_of_holder = shares.is_holder(asking.holder)
        answer = shares.ask(asking, now, is_lost=not self._is_member(asking.worker, process))
        if answer.word == GO:  # who waits for the part knows nothing of it
            self._come[asking.part] = come, trouble
        elif asking.is_done and is_of_holder:
            self._come.pop(asking.part, None)
        if shares.is_news and self._scheduler is not None:
            comms = self._scheduler.stream_comms
            for worker in shares.workers & comms.keys() - {asking.worker}:
                comms[worker].send({"op": NEWS})
        return answer._asdict()

    def _is_member(self, worker: str, process: str) -> bool:
        """Return whether the cluster has this process, not another one or none at its address."""
        known = None if self._scheduler is None else self._scheduler.workers.get(worker)
        return known is not None and known.server_id == process

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """Free the connections of a lost worker, `ttl_s` from now."""
        del scheduler
        for shares in self._shares.values():
            shares.lose_worker(worker, time.monotonic())
