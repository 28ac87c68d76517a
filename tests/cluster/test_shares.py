"""The board's rules: the ceiling holds under any order of askings, losses and late messages."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from psfharvest.cluster.shares import (
    BETWEEN_S,
    CLOSED_S,
    GO,
    OVER,
    SHORT_AGAIN_S,
    WAIT,
    Answer,
    Asking,
    Shares,
)
from sampling import examples

CEILING = 12
TTL_S = 4.0
FENCE_S = 0.75 * TTL_S


def asking(holder: str, seq: int = 1, held: int = 0, **more) -> Asking:
    given = {"part": f"part of {holder}", "worker": f"worker of {holder}", "slot": "1", "epoch": 1}
    return Asking(holder, seq=seq, held=held, **{**given, **more})


def test_a_share_grows_only_out_of_what_others_have_closed() -> None:
    """A second holder gets nothing before the first has said that it closed something."""
    shares = Shares(CEILING, ttl_s=TTL_S)
    assert 12 == shares.ask(asking("a"), 0.0).grant
    assert 0 == shares.ask(asking("b"), 0.1).grant
    assert 6 == shares.ask(asking("a", 2, held=12), 1.0).grant
    assert 0 == shares.ask(asking("b", 2), 1.1).grant
    assert 6 == shares.ask(asking("a", 3, held=6), 2.0).grant
    assert (0, SHORT_AGAIN_S) == (shares.ask(asking("b", 3), 2.1).grant, shares.ask(asking("b", 4), 2.2).again_s)
    assert 6 == shares.ask(asking("b", 5), 2.0 + CLOSED_S).grant
    assert OVER == shares.ask(asking("a", 4, is_done=True), 3.0).word
    assert 6 == shares.ask(asking("b", 6, held=6), 3.0 + BETWEEN_S - 0.1).grant
    assert 12 == shares.ask(asking("b", 7, held=6), 3.0 + BETWEEN_S).grant


def test_what_was_closed_counts_for_a_moment_more() -> None:
    """For who closed it, too: a busy server opens a connection before it notices that another one has ended."""
    shares = Shares(CEILING, ttl_s=TTL_S)
    shares.ask(asking("a", worker="w"), 0.0)
    shares.ask(asking("b"), 0.0)
    assert 6 == shares.ask(asking("a", 2, held=12, worker="w"), 1.0).grant
    shares.ask(asking("a", 3, held=6, worker="w"), 2.0)
    assert 6 == shares.ask(asking("a", 4, held=6, worker="w"), 2.1).grant
    shares.ask(asking("a", 5, is_done=True, worker="w"), 2.1)
    assert 0 == shares.ask(asking("c", worker="w", epoch=2), 2.2).grant
    assert 0 == shares.ask(asking("b", 2), 2.2).grant
    assert 6 == shares.ask(asking("c", 2, worker="w", epoch=2), 2.1 + CLOSED_S).grant
    assert 6 == shares.ask(asking("b", 3), 2.1 + CLOSED_S).grant


def test_a_thread_keeps_its_share_between_two_parts() -> None:
    """Others would have to close again what they took of it; a process that is lost keeps nothing."""
    shares = Shares(CEILING, ttl_s=TTL_S)
    for seq, held in enumerate((0, 12, 6, 6)):
        shares.ask(asking("a", seq, held=held, worker="w"), seq)
        shares.ask(asking("b", seq, held=6 * (seq > 2)), seq + 0.9)
    shares.ask(asking("a", 9, is_done=True, worker="w"), 5.0)
    assert 6 == shares.ask(asking("b", 9, held=6), 6.9).grant
    assert 6 == shares.ask(asking("c", worker="w", epoch=2), 6.9).grant
    shares.ask(asking("c", 2, is_done=True, worker="w", epoch=2), 8.0)
    shares.lose_worker("w", 8.1)
    assert 12 == shares.ask(asking("b", 10, held=6), 8.0 + CLOSED_S).grant


def test_a_process_that_is_lost_before_its_first_message_comes_holds_nothing() -> None:
    """Nobody would say again that it is lost, and its part would be taken for ever."""
    shares = Shares(CEILING, ttl_s=TTL_S)
    assert (OVER, 0) == shares.ask(asking("a", part="p"), 0.0, is_lost=True)[:2]
    assert (GO, CEILING) == shares.ask(asking("b", part="p"), 0.1)[:2]


def test_silence_frees_nothing() -> None:
    """A stopped process keeps its sockets; only when the cluster has lost it, and `ttl_s` later, they are free."""
    shares = Shares(CEILING, ttl_s=TTL_S)
    shares.ask(asking("a"), 0.0)
    assert 0 == shares.ask(asking("b"), 1000.0).grant
    shares.lose_worker("worker of a", 1001.0)
    assert 0 == shares.ask(asking("b", 2), 1001.0 + TTL_S - 0.01).grant
    assert 12 == shares.ask(asking("b", 3), 1001.0 + TTL_S).grant
    assert OVER == shares.ask(asking("a", 2, held=12), 1006.0).word


def test_a_pause_and_an_outage_are_news_once() -> None:
    """The others are told at once, and not again by those who pass on what they were told."""
    shares = Shares(CEILING, ttl_s=TTL_S)

    def is_news(name: str, seq: int, now: float, **more) -> bool:
        shares.ask(asking(name, seq, **more), now)
        return shares.is_news

    assert [False, False] == [is_news(name, 1, 0.0) for name in "ab"]
    assert is_news("a", 2, 1.0, pause_s=5.0)
    assert not is_news("a", 3, 2.0, pause_s=4.0)
    assert not is_news("b", 2, 2.0, pause_s=4.2)
    assert is_news("b", 3, 2.5, pause_s=9.0)
    assert is_news("a", 4, 3.0, is_down=True)
    assert not is_news("b", 4, 3.1, is_down=True)
    assert {"worker of a", "worker of b"} == shares.workers
    shares.lose_worker("worker of a", 3.2)
    assert {"worker of b"} == shares.workers


def test_a_process_that_the_cluster_has_lost_is_over_though_it_goes_on() -> None:
    """A good answer would let it keep its connections beyond the time at which they go to others."""
    shares = Shares(CEILING, ttl_s=TTL_S)
    shares.ask(asking("a"), 0.0)
    shares.lose_worker("worker of a", 1.0)
    assert (OVER, 0) == shares.ask(asking("a", 2, held=12), 2.0)[:2]
    assert CEILING == shares.in_use
    assert 0 == shares.ask(asking("b"), 1.0 + TTL_S - 0.01).grant
    assert 0 == shares.ask(asking("c", worker="worker of a", epoch=2), 1.0 + TTL_S - 0.01).grant


def test_a_message_that_was_overtaken_changes_nothing() -> None:
    """What a holder said before it opened its connections does not free them."""
    shares = Shares(CEILING, ttl_s=TTL_S)
    assert 12 == shares.ask(asking("a", 2), 0.0).grant
    shares.ask(asking("b"), 0.1)
    assert 6 == shares.ask(asking("a", 3, held=12), 1.0).grant
    assert (WAIT, 0) == shares.ask(asking("a", 1), 1.1)[:2]
    assert 0 == shares.ask(asking("b", 2), 1.2).grant


def test_holders_that_are_stopped_keep_their_connections_until_they_are_done() -> None:
    """Those of the named folder are over at once; what they have open is counted until they say otherwise."""
    shares = Shares(CEILING, ttl_s=TTL_S)
    shares.ask(asking("a", part="/one#1"), 0.0)
    shares.ask(asking("b", part="/other#1"), 0.0)
    shares.stop("/one#")
    assert (OVER, CEILING) == (shares.ask(asking("a", 2, held=12, part="/one#1"), 1.0).word, shares.in_use)
    assert (GO, 0) == shares.ask(asking("b", 2, part="/other#1"), 1.1)[:2]
    shares.ask(asking("a", 3, is_done=True, part="/one#1"), 2.0)
    assert (GO, 12) == shares.ask(asking("b", 3, part="/other#1"), 2.0 + BETWEEN_S)[:2]


def test_a_part_has_one_holder() -> None:
    """Another waits until the first is done."""
    shares = Shares(CEILING, ttl_s=TTL_S)
    shares.ask(asking("a", part="p"), 0.0)
    assert (WAIT, 0) == shares.ask(asking("b", part="p"), 0.1)[:2]
    shares.ask(asking("a", 2, part="p", is_done=True), 0.2)
    assert (GO, 12) == shares.ask(asking("b", 2, part="p"), 0.2 + BETWEEN_S)[:2]


def test_a_thread_that_comes_with_another_holder_has_ended_the_first() -> None:
    """What comes late of the first is over, also when the board never knew it."""
    shares = Shares(CEILING, ttl_s=TTL_S)
    shares.ask(asking("a", worker="w"), 0.0)
    assert 0 == shares.ask(asking("b", worker="w", epoch=2), 0.1).grant
    assert 12 == shares.ask(asking("b", 2, worker="w", epoch=2), 0.1 + CLOSED_S).grant
    assert OVER == shares.ask(asking("a", 2, held=12, worker="w"), 0.5).word
    assert OVER == shares.ask(asking("unknown", worker="w", epoch=1), 0.6).word
    assert 12 == shares.ask(asking("b", 3, held=12, worker="w", epoch=2), 0.7).grant


def test_a_new_board_grants_nothing_at_first() -> None:
    """Holders of the one before are still ending."""
    shares = Shares(CEILING, grants_from=TTL_S, ttl_s=TTL_S)
    assert (GO, 0) == shares.ask(asking("a"), TTL_S - 0.1)[:2]
    assert (GO, 12) == shares.ask(asking("a", 2), TTL_S)[:2]


def test_a_pause_is_everybodys_and_one_probes() -> None:
    """Retry-After reaches all with their next asking; of an archive that is down one holder sends probes."""
    shares = Shares(CEILING, ttl_s=TTL_S)
    shares.ask(asking("a"), 0.0)
    shares.ask(asking("b"), 0.0)
    assert 5.0 == shares.ask(asking("a", 2, pause_s=5.0), 1.0).pause_s
    assert pytest.approx(4.5) == shares.ask(asking("b", 2), 1.5).pause_s
    assert 0.0 == shares.ask(asking("b", 3), 6.1).pause_s
    assert 0.0 == shares.ask(asking("b", 4, is_down=True), 7.0).pause_s
    assert shares.ask(asking("a", 3, is_down=True), 7.1).pause_s > 0
    assert 0.0 == shares.ask(asking("b", 5, is_down=True), 8.0).pause_s
    shares.ask(asking("b", 6), 9.0)
    assert 0.0 == shares.ask(asking("a", 4), 9.1).pause_s


def test_a_rate_is_shared_as_the_connections_are() -> None:
    """The sum of all rates is never more than what was asked for."""
    shares = Shares(CEILING, ttl_s=TTL_S, per_second=24.0)
    assert 24.0 == shares.ask(asking("a"), 0.0).per_second
    shares.ask(asking("b"), 0.1)
    assert 12.0 == shares.ask(asking("a", 2, held=12), 1.0).per_second


def test_who_wants_less_leaves_the_rest() -> None:
    """A head that counts over one connection leaves all others to the workers."""
    shares = Shares(CEILING, ttl_s=TTL_S)
    assert 1 == shares.ask(asking("head", wanted=1), 0.0).grant
    assert 11 == shares.ask(asking("a"), 0.1).grant


@dataclass
class Process:
    """One thread of a worker that keeps to the rules: what it may have open is what the server would see."""

    name: str
    epoch: int = 0
    holder: str = ""
    part: str = ""
    seq: int = 0
    open: int = 0
    limit: int = 0
    closed: list[tuple[int, float]] = field(default_factory=list)
    """How many it has closed, and when: the server notices that up to `CLOSED_S` later."""
    answered_at: float = 0.0
    awaited: int = 0
    board: int = 0
    """Number of the board that gave the last good answer."""
    is_stopped: bool = False
    is_lost: bool = False
    sent: list[tuple[Asking, float]] = field(default_factory=list)
    answers: list[tuple[int, str, float, int, Answer]] = field(default_factory=list)

    def begin(self, part: int, now: float) -> None:
        """Begin as another holder, with nothing open."""
        self.epoch += 1
        self.holder, self.part = f"{self.name}/{self.epoch}", f"part {part}"
        self.close(0, now)
        self.limit = self.seq = 0
        self.answered_at = now
        self.is_lost = False

    def close(self, n: int, now: float) -> None:
        """Keep at most so many open."""
        if n < self.open:
            self.closed.append((self.open - n, now))
            self.open = n

    def seen_open(self, now: float) -> int:
        """Return how many are open as a busy server sees it."""
        return self.open + sum(n for n, at in self.closed if now < at + CLOSED_S - 1e-6)

    def is_silent(self, now: float) -> bool:
        """Return whether it must end its work, for want of a good answer."""
        return now > self.answered_at + FENCE_S


class Cluster(RuleBasedStateMachine):
    """Processes that ask, are stopped, die and come back; messages that are lost, late, or overtake each other."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.shares = Shares(CEILING, ttl_s=TTL_S)
        self.board = 0
        self.processes: list[Process] = []

    @initialize(n=st.sampled_from([2, 2, 3, 4]))
    def start(self, n: int) -> None:
        self.processes = [Process(f"w{k}") for k in range(n)]
        for k, process in enumerate(self.processes):
            process.begin(k, self.now)

    def pick(self, k: int) -> Process:
        return self.processes[k % len(self.processes)]

    @rule(seconds=st.one_of(st.sampled_from([0.1, 0.3, 1.0, 2.5, 4.0]), st.floats(0.0, 5.0)))
    def wait(self, seconds: float) -> None:
        """Time passes; a running process without a good answer for too long ends its work."""
        self.now += seconds
        for process in self.processes:
            if not process.is_stopped and process.is_silent(self.now):
                process.close(0, process.answered_at + FENCE_S)
                process.begin(0, self.now)

    @rule(k=st.integers(0, 9))
    def lose(self, k: int) -> None:
        """The scheduler loses a process that goes on."""
        process = self.pick(k)
        if not process.is_stopped:
            process.is_lost = True
            self.shares.lose_worker(process.name, self.now)

    @rule(k=st.integers(0, 9))
    def stop(self, k: int) -> None:
        """A process is stopped by a signal: its connections stay open, its connection to the scheduler, too."""
        process = self.pick(k)
        process.is_stopped = process.board == self.board and not process.is_lost

    @rule(k=st.integers(0, 9))
    def go_on(self, k: int) -> None:
        """It is continued, and looks at the clock first."""
        process = self.pick(k)
        process.is_stopped = False
        if process.is_silent(self.now):
            process.begin(0, self.now)

    @rule(k=st.integers(0, 9), is_done=st.integers(0, 9), part=st.integers(0, 5))
    def send(self, k: int, is_done: int, part: int) -> None:
        """Ask; or end this holder, and begin as another."""
        process = self.pick(k)
        if process.is_stopped:
            return
        process.seq += 1
        process.awaited = process.seq
        said = Asking(
            process.holder, process.part, process.name, "1", process.epoch, process.seq, process.open,
            is_done=is_done == 0,
        )  # fmt: skip
        if said.is_done:
            said = said._replace(held=0)
            process.begin(part, self.now)
        process.sent.append((said, self.now))

    @rule(k=st.integers(0, 9), which=st.integers(0, 9), is_lost=st.integers(0, 4))
    def arrive(self, k: int, which: int, is_lost: int) -> None:
        """Let any message of a process arrive, however old; its answer may be lost, or come late."""
        process = self.pick(k)
        if not process.sent:
            return
        said, asked_at = process.sent.pop(which % len(process.sent))
        if is_lost == 0:
            return
        answer = self.shares.ask(said, self.now)
        if is_lost > 1:
            process.answers.append((said.seq, said.holder, asked_at, self.board, answer))

    @rule(k=st.integers(0, 9), which=st.integers(0, 9))
    def hear(self, k: int, which: int) -> None:
        """Take an answer, if it is to the last asking."""
        process = self.pick(k)
        if not process.answers or process.is_stopped:
            return
        seq, holder, asked_at, board, answer = process.answers.pop(which % len(process.answers))
        if (seq, holder) != (process.awaited, process.holder):
            return
        if answer.word == OVER:
            process.begin(0, self.now)
        elif answer.word == GO:
            process.answered_at, process.board = asked_at, board
            process.limit = answer.grant
            process.open = max(process.open, answer.grant)

    @rule(k=st.integers(0, 9))
    def talk(self, k: int) -> None:
        """Ask and be answered at once, as on most days."""
        self.send(k, is_done=1, part=0)
        self.arrive(k, which=len(self.pick(k).sent) - 1, is_lost=2)
        self.hear(k, which=len(self.pick(k).answers) - 1)

    @rule()
    def all_talk(self) -> None:
        """Let each share become a fair one."""
        for _ in range(2):
            for k in range(len(self.processes)):
                self.talk(k)
                self.close(k)

    @rule(k=st.integers(0, 9))
    def close(self, k: int) -> None:
        """Lower what is open to what was granted."""
        process = self.pick(k)
        if not process.is_stopped:
            process.close(process.limit, self.now)

    @rule(k=st.integers(0, 9), part=st.integers(0, 5))
    def die(self, k: int, part: int) -> None:
        """A process is killed: its sockets are closed; another takes its place."""
        process = self.pick(k)
        self.shares.lose_worker(process.name, self.now)
        fresh = Process(f"{process.name}'")
        fresh.begin(part, self.now)
        fresh.sent = process.sent  # what was on its way still arrives
        self.processes[self.processes.index(process)] = fresh

    @invariant()
    def no_more_is_open_than_the_ceiling(self) -> None:
        assert sum(process.seen_open(self.now) for process in self.processes) <= CEILING

    @invariant()
    def no_more_is_counted_than_the_ceiling(self) -> None:
        if not self.board:  # a later one may count what has been closed since: that grants less, never more
            assert self.shares.in_use <= CEILING

    @invariant()
    def a_part_has_one_holder(self) -> None:
        parts = [process.part for process in self.processes if process.open]
        assert self.board or len(parts) == len(set(parts))


class Boards(Cluster):
    """The same, and the scheduler is restarted: its new board knows nobody."""

    @rule()
    def restart(self) -> None:
        if not any(process.is_stopped for process in self.processes):
            self.board += 1
            self.shares = Shares(CEILING, grants_from=self.now + TTL_S, ttl_s=TTL_S)


TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=examples(60), stateful_step_count=60, deadline=None)
TestBoards = Boards.TestCase
TestBoards.settings = settings(max_examples=examples(60), stateful_step_count=60, deadline=None)
