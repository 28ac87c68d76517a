"""Single requests in order: by deadline, none twice, and what would come late waits while others can be kept."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from psfharvest.core.policy.deadlines import COMPACT_MIN, UNHURRIED_S, DeadlineQueue

DUE = st.floats(0, 100) | st.just(math.inf)


def taken(queue: DeadlineQueue[int], answered_at: float, *, is_idle: bool = False) -> list[int]:
    """All that the queue gives at one time."""
    found = []
    while (waiting := queue.take(answered_at, is_idle=is_idle)) is not None:
        found.append(waiting)
    return found


@given(st.lists(DUE), st.sets(st.integers(0, 30)), st.floats(0, 100))
def test_each_comes_once_by_its_deadline(dues: list[float], left: set[int], answered_at: float) -> None:
    """What can be answered in time comes first and in order; nothing discarded comes; late ones at rest."""
    queue: DeadlineQueue[int] = DeadlineQueue()
    for n, due_at in enumerate(dues):
        queue.put(n, due_at, due_at, 0.0)
    for n in left:
        queue.discard(n)
    kept = [n for n in range(len(dues)) if n not in left]
    in_time = [n for n in kept if dues[n] >= answered_at]

    assert len(queue) == len(kept)
    assert taken(queue, answered_at) == sorted(in_time, key=lambda n: (min(dues[n], UNHURRIED_S), n))
    late = [n for n in kept if dues[n] < answered_at]
    assert sorted(taken(queue, answered_at, is_idle=True)) == late
    assert len(queue) == 0


def test_without_a_deadline_nobody_waits_for_ever() -> None:
    """Who came a minute ago without a deadline goes before those that come now with one."""
    queue: DeadlineQueue[str] = DeadlineQueue()
    queue.put("unhurried", math.inf, math.inf, 0.0)
    queue.put("early", 10.0, 10.0, 0.0)
    queue.put("late comer", UNHURRIED_S + 10.0, math.inf, UNHURRIED_S)
    assert ["early", "unhurried", "late comer"] == [queue.take(0.0, is_idle=False) for _ in range(3)]


def test_one_more_caller_changes_the_turn() -> None:
    """A second caller with an earlier deadline brings it forward; the more patient one keeps it worth a request."""
    queue: DeadlineQueue[str] = DeadlineQueue()
    queue.put("both", 50.0, 50.0, 0.0)
    queue.put("other", 20.0, 20.0, 0.0)
    queue.put("both", 10.0, 10.0, 0.0)
    assert ["both", "other", None] == [queue.take(15.0, is_idle=False) for _ in range(3)]


def test_a_patient_caller_rescues_what_seemed_late() -> None:
    """Whoever joins a request that nobody could wait for any more, and waits, has a turn."""
    queue: DeadlineQueue[str] = DeadlineQueue()
    queue.put("joined", 1.0, 1.0, 0.0)
    assert queue.take(5.0, is_idle=False) is None
    queue.put("joined", math.inf, math.inf, 0.0)
    assert queue.take(5.0, is_idle=False) == "joined"
    assert queue.take(5.0, is_idle=True) is None


@given(st.integers(0, 500), st.booleans())
def test_what_left_takes_no_room(n: int, is_late: bool) -> None:
    """Callers that come and leave while nothing is sent leave nothing behind that grows, put off or not."""
    queue: DeadlineQueue[int] = DeadlineQueue()
    queue.put(-1, 3.0, 3.0, 0.0)
    for number in range(n):
        queue.put(number, 1.0, 1.0, 0.0)
        if is_late:
            assert queue.take(5.0, is_idle=False) is None
        queue.discard(number)
    assert len(queue._order) + len(queue._late) <= COMPACT_MIN + 3
    assert queue.take(5.0, is_idle=True) == -1


@given(st.lists(st.tuples(st.integers(0, 5), DUE, st.booleans()), max_size=400))
def test_many_callers_of_one_request_take_no_room(calls: list[tuple[int, float, bool]]) -> None:
    """However callers join and leave requests, each waits once, and none is lost with the stale entries."""
    queue: DeadlineQueue[int] = DeadlineQueue()
    waiting = set()
    for request, due_at, is_leaving in calls:
        queue.put(request, due_at, due_at, 0.0)
        waiting.add(request)
        if is_leaving:
            queue.discard(request)
            waiting.discard(request)
    assert sorted(taken(queue, 50.0, is_idle=True)) == sorted(waiting)
