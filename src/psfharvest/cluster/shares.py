"""
How the connections to one archive are shared by the processes of a cluster: decisions only, time is an argument.

A holder is one attempt at one part by one thread of a process. It counts for what it last said to have open, or for
what it was last granted, whichever is more; the sum over all holders never exceeds the ceiling. Silence frees
nothing, since a stopped process keeps its connections. They go to others when the holder says that it is done, when
its thread comes with another holder, or `ttl_s` after the cluster has lost its process, which has ended by then.

What a thread has closed counts for a moment more, since a busy server notices that late; and between two parts a
thread keeps its share for its next one, since others would have to close what they took of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from psfharvest.core.policy.fair import fair_parts

TTL_S = 8.0
"""A holder without a good answer for three quarters of this ends its work; after all of it, it has ended."""
CLOSED_S = 0.3
"""For how long a connection that was closed still counts: a busy server notices its end a moment later."""
BETWEEN_S = 2.0
"""For how long the share of a thread that has ended a part is kept for its next one."""
ASK_EVERY_S = 1.0
SHORT_AGAIN_S = 0.2
"""After how long a holder that has less than its fair share asks again."""
DOWN_PAUSE_S = 2.0
"""For how long others hold at each asking while one holder probes an archive that is down."""
NEWS_S = 0.5
"""By how much a pause must be longer than the known one to be announced at once."""
GO, WAIT, OVER = "go", "wait", "over"


class Asking(NamedTuple):
    """One message of a holder."""

    holder: str
    part: str
    worker: str
    """The process, as the cluster names it."""
    slot: str
    """Its thread: it works on one part at a time."""
    epoch: int
    """Grows with each holder of a thread."""
    seq: int
    """Grows with each asking of a holder."""
    held: int
    """Connections that may be open."""
    is_done: bool = False
    wanted: int = 2**31
    """Connections that it can use."""
    pause_s: float = 0.0
    """Rest of the pause that the archive demands with Retry-After."""
    is_down: bool = False
    """Whether it considers the archive down."""


class Answer(NamedTuple):
    """What a holder may do: work, wait for its part's present holder, or end."""

    word: str
    grant: int
    """Connections; 0 holds its work."""
    pause_s: float
    """For how long nothing may be sent."""
    per_second: float | None
    ttl_s: float
    again_s: float = ASK_EVERY_S
    """After how long it asks again."""


Thread = tuple[str, str]
"""A process and a thread of it."""


class _Closed(NamedTuple):
    """What a thread has closed: some of what it had open, or all of it at the end of a part."""

    n: int
    wanted: int
    counts_until: float
    """Until then it may still be open, as the server sees it."""
    kept_until: float
    """Until then it is kept for the thread's next holder."""


@dataclass(slots=True)
class _Holder:
    part: str
    worker: str
    slot: str
    held: int
    seq: int
    wanted: int
    granted: int = 0
    gone_at: float | None = None

    @property
    def counted(self) -> int:
        return max(self.held, self.granted)

    @property
    def thread(self) -> Thread:
        return self.worker, self.slot


@dataclass(slots=True)
class Shares:
    """
    The state. It may be lost: a new one grants nothing until the holders of the one before have ended.

    Parameters
    ----------
    ceiling
        Connections for all together.
    grants_from
        Time from which on anything is granted.
    ttl_s
        See `TTL_S`.
    per_second
        Requests for all together; None is no limit.
    """

    ceiling: int
    grants_from: float = 0.0
    ttl_s: float = TTL_S
    per_second: float | None = None
    _holders: dict[str, _Holder] = field(default_factory=dict)
    _over: set[str] = field(default_factory=set)
    _epochs: dict[Thread, int] = field(default_factory=dict)
    _closed: dict[Thread, _Closed] = field(default_factory=dict)
    _down: dict[str, None] = field(default_factory=dict)
    _paused_until: float = 0.0
    is_news: bool = False
    """Whether the last message announced a pause or an outage that the other holders do not know of."""

    @property
    def workers(self) -> set[str]:
        """The processes of all holders that the cluster has not lost."""
        return {holder.worker for holder in self._holders.values() if holder.gone_at is None}

    @property
    def in_use(self) -> int:
        """Connections that are held or granted now."""
        return sum(holder.counted for holder in self._holders.values())

    def is_holder(self, name: str) -> bool:
        """Return whether it works on its part, or is to."""
        return name in self._holders

    def ask(self, asking: Asking, now: float, *, is_lost: bool = False) -> Answer:
        """
        Record a holder's message, and return what it may do.

        Parameters
        ----------
        asking, now
            The message, and when it came.
        is_lost
            Whether the cluster has lost its process already: it becomes no holder any more, of which nobody would
            say again that it is lost.
        """
        self._sweep(now)
        self._take_epoch(asking, now)
        self.is_news = asking.pause_s > max(0.0, self._paused_until - now) + NEWS_S or asking.is_down > bool(
            self._down
        )
        self._paused_until = max(self._paused_until, now + asking.pause_s)
        if asking.is_done:
            self._leave(asking.holder, now, BETWEEN_S)
        if (word := OVER if is_lost else self._word(asking)) != GO:
            return self._answer(word)
        holder = self._holders.setdefault(
            asking.holder, _Holder(asking.part, asking.worker, asking.slot, asking.held, asking.seq, asking.wanted)
        )
        self._close(holder, asking.held, now)
        holder.held, holder.seq, holder.wanted = asking.held, asking.seq, asking.wanted
        if asking.is_down:
            self._down.setdefault(asking.holder)
        else:
            self._down.pop(asking.holder, None)
        holder.granted, fair = self._grant(holder, now)
        answer = self._answer(GO, holder.granted, self._pause_s(asking.holder, now))
        return answer._replace(again_s=SHORT_AGAIN_S) if holder.granted < fair else answer

    def lose_worker(self, worker: str, now: float) -> None:
        """Record when the cluster has lost a process."""
        for holder in self._holders.values():
            if holder.worker == worker and holder.gone_at is None:
                holder.gone_at = now
        for thread, closed in self._closed.items():
            if thread[0] == worker:
                self._closed[thread] = closed._replace(kept_until=now)

    def stop(self, prefix: str) -> None:
        """End all holders of parts whose names begin so; what they have open counts until they say otherwise."""
        self._over.update(name for name, holder in self._holders.items() if holder.part.startswith(prefix))

    def _word(self, asking: Asking) -> str:
        """Return whether who asks works, waits for its part, or ends."""
        holder = self._holders.get(asking.holder)
        if asking.holder in self._over or (holder is not None and holder.gone_at is not None):
            return OVER  # the connections of one that is gone are given away soon
        if holder is None:
            is_taken = any(other.part == asking.part for other in self._holders.values())
            return WAIT if is_taken and not asking.held else GO
        return GO if asking.seq > holder.seq else WAIT  # older than the last message: its answer is not awaited

    def _answer(self, word: str, grant: int = 0, pause_s: float = 0.0) -> Answer:
        rate = None if self.per_second is None else self.per_second * grant / max(1, self.ceiling)
        return Answer(word, grant, pause_s, rate, self.ttl_s)

    def _take_epoch(self, asking: Asking, now: float) -> None:
        """End what a thread worked at before; what comes late of that is over, too."""
        thread = (asking.worker, asking.slot)
        newest = self._epochs.get(thread, asking.epoch)
        if asking.epoch < newest:
            self._leave(asking.holder, now)
            return
        self._epochs[thread] = asking.epoch
        for name, other in list(self._holders.items()):
            if other.thread == thread and name != asking.holder:
                self._leave(name, now)

    def _grant(self, holder: _Holder, now: float) -> tuple[int, int]:
        """Return how many connections a holder gets, and how many are its fair share."""
        held = {other.thread: other.counted for other in self._holders.values()} | {holder.thread: 0}
        kept = {t: c for t, c in self._closed.items() if now < c.kept_until and t not in held}
        wanted = {other.thread: other.wanted for other in self._holders.values()}
        wanted |= {thread: closed.wanted for thread, closed in kept.items()}
        fair = dict(
            zip(wanted, fair_parts(self.ceiling, [min(n, self.ceiling) for n in wanted.values()]), strict=True)
        )
        if now < self.grants_from:
            return 0, 0
        closing = {thread: closed.n for thread, closed in self._closed.items() if now < closed.counts_until}
        keeping = {thread: min(closed.n, fair[thread]) for thread, closed in kept.items() if thread not in closing}
        free = self.ceiling - sum(held.values()) - sum(closing.values()) - sum(keeping.values())
        return max(0, min(fair[holder.thread], free)), fair[holder.thread]

    def _close(self, holder: _Holder, held: int, now: float, keep_s: float = 0.0) -> None:
        """Record that a holder has no more open than `held`."""
        if held < holder.counted:
            before = self._closed.get(holder.thread)
            n = before.n if before is not None and now < before.counts_until else 0
            n += holder.counted - held
            self._closed[holder.thread] = _Closed(n, holder.wanted, now + CLOSED_S, now + keep_s)

    def _pause_s(self, name: str, now: float) -> float:
        """Return how long a holder sends nothing; of several that find the archive down, the first one probes."""
        prober = next(iter(self._down), name)
        return max(0.0, self._paused_until - now, 0.0 if prober == name else DOWN_PAUSE_S)

    def _sweep(self, now: float) -> None:
        for name, holder in list(self._holders.items()):
            if holder.gone_at is not None and now >= holder.gone_at + self.ttl_s:
                self._end(name)
        for thread, closed in list(self._closed.items()):
            if now >= max(closed.counts_until, closed.kept_until):
                del self._closed[thread]

    def _leave(self, name: str, now: float, keep_s: float = 0.0) -> None:
        """End a holder that has closed its connections just now."""
        if (holder := self._holders.get(name)) is not None:
            self._close(holder, 0, now, keep_s if holder.gone_at is None else 0.0)
        self._end(name)

    def _end(self, name: str) -> None:
        self._holders.pop(name, None)
        self._down.pop(name, None)
        self._over.add(name)
