"""Splitting a query: nothing lost, nothing twice, few questions, whatever the archive is like."""

from bisect import bisect_left, bisect_right
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from psfharvest.core.catalog.partition import (
    HIGHEST,
    LOWEST,
    MAX_TRIES,
    MIN_PAGE_ROWS,
    Part,
    Planner,
    Question,
    gaps,
)

IDS = st.sets(
    st.integers(0, 60) | st.integers(0, 4 * 10**7) | st.integers(-(10**6), 2**40) | st.integers(LOWEST, HIGHEST),
    max_size=60,
).map(sorted)
RUNS = st.builds(lambda start, n: list(range(start, start + n)), st.integers(-50, 10**8), st.integers(0, 120))
SPANS = st.tuples(st.integers(-100, 10**8), st.integers(0, 10**7)).map(lambda t: Part(t[0], t[0] + t[1]))


class Archive:
    """A catalogue of ids that answers a planner's questions, with a cap on rows that it does not tell."""

    def __init__(self, ids: list[int], cap: int = 10**9) -> None:
        self.ids = ids
        self.cap = cap
        self.counts = self.rows = 0

    def within(self, part: Part) -> list[int]:
        """Give the ids in a part."""
        return self.ids[bisect_left(self.ids, part.low) : bisect_right(self.ids, part.high)]

    def count(self, part: Part) -> int:
        """Answer a count."""
        self.counts += 1
        return len(self.within(part))

    def answer(self, part: Part) -> list[int]:
        """Answer a request for rows."""
        self.rows += 1
        return self.within(part)[: self.cap]


def harvested(planner: Planner, archive: Archive, max_steps: int = 20_000) -> list[tuple[Part, list[int]]]:
    """Follow a plan to its end; give the parts that it took for complete."""
    taken = []
    for _ in range(max_steps):
        step = planner.next_step()
        if step is None:
            return taken
        if step.ask is Question.COUNT:
            planner.counted(archive.count(step.part))
        else:
            found = archive.answer(step.part)
            if planner.received(len(found)):
                taken.append((step.part, found))
    raise AssertionError("the plan does not end")


@given(IDS | RUNS, st.integers(1, 50), st.integers(1, 60), st.lists(SPANS, max_size=4))
@example([0, 1, 2**26 - 1, 2**26, HIGHEST], 1, 1, [])
@example([LOWEST, -1, 0], 1, 1, [Part(-1, -1)])
def test_every_id_in_the_gaps_comes_exactly_once_in_order(ids, page_rows, cap, finished):
    """Whatever the ids, the page, the archive's cap and what was had before: the rest comes once, ascending."""
    taken = harvested(Planner(page_rows, gaps(finished)), Archive(ids, cap))
    wanted = [i for i in ids if not any(low <= i <= high for low, high in finished)]

    assert wanted == [i for _, found in taken for i in found]
    assert all(one.high < other.low for (one, _), (other, _) in pairwise(taken))
    assert all(len(found) <= min(cap, page_rows) for _, found in taken)
    assert all(not (low <= part.high and part.low <= high) for part, _ in taken for low, high in finished)


@given(IDS | RUNS, st.integers(1, 50))
def test_few_questions(ids, page_rows):
    """A part is asked for once, and the counts are few: one a level of the way down to each part."""
    archive = Archive(ids)
    taken = harvested(Planner(page_rows), archive)

    assert len(taken) == archive.rows
    assert archive.counts <= 1 + 56 * max(0, len(taken))


def test_the_real_catalogue_takes_about_a_count_a_part():
    """33 million even ids in pages of 50,000 take about as many counts as parts."""

    class Even(Archive):
        def within(self, part: Part) -> range:
            return range(max(part.low, 0), min(part.high + 1, 33_000_000))

    archive = Even([])
    taken = harvested(Planner(50_000), archive)

    assert 33_000_000 == sum(len(found) for _, found in taken)
    assert archive.rows <= 1300
    assert archive.counts <= 1.1 * archive.rows


def test_the_first_part_is_asked_for_before_the_rest_is_counted():
    """The way to the lowest part is all that stands before its rows; what lies above is left for later."""
    archive = Archive(list(range(0, 2**22, 64)))
    planner = Planner(1000)
    asked = []
    while (step := planner.next_step()).ask is Question.COUNT:
        asked.append(step.part)
        planner.counted(archive.count(step.part))

    assert 0 == step.part.low
    assert len(asked) < 20
    assert step.expected == len(archive.within(step.part)) <= 1000


@given(RUNS | IDS, st.integers(1, 40), st.data())
def test_an_archive_that_lies_loses_no_row(ids, page_rows, data):
    """Answers that hold fewer rows than counted are asked for anew until all are there, or told to be lacking."""
    archive = Archive(ids)
    lies = iter(data.draw(st.lists(st.integers(0, 5), max_size=25)))
    planner = Planner(page_rows)
    received: list[int] = []
    while (step := planner.next_step()) is not None:
        if step.ask is Question.COUNT:
            planner.counted(archive.count(step.part))
            continue
        found = archive.answer(step.part)
        found = found[: next(lies, 10**9)]
        if planner.received(len(found)):
            received += found

    assert sorted(received) == received
    assert set(received) <= set(ids)
    assert len(ids) == len(received) + planner.lacking


@given(st.integers(-(10**6), 10**6), st.integers(1, 5))
def test_what_came_of_a_single_id_is_taken_in_the_end(where, count):
    """An archive that gives less of one id than it counts is asked again; then what came is taken."""
    planner = Planner(10, [Part(where, where), Part(where + 1, where + 1)])
    for n in range(MAX_TRIES):
        assert Question.COUNT is planner.next_step().ask
        planner.counted(count)

        assert (Question.ROWS, count) == (planner.next_step().ask, planner.next_step().expected)
        assert (n == MAX_TRIES - 1) == planner.received(count - 1)

    assert (1, 1) == (planner.lacking, planner.lacking_in_a_row)
    planner.next_step()
    planner.counted(count)

    assert planner.received(count)
    assert (1, 0) == (planner.lacking, planner.lacking_in_a_row)
    assert None is planner.next_step()


@given(RUNS | IDS, st.integers(1, 2000), st.integers(MIN_PAGE_ROWS, 2000))
def test_a_part_that_is_not_delivered_is_halved(ids, page_rows, deliverable):
    """Parts above what the archive delivers are halved, which serves the next ones, and nothing is lost."""
    archive, planner = Archive(ids), Planner(page_rows)
    received: list[int] = []
    refused = 0
    while (step := planner.next_step()) is not None:
        if step.ask is Question.COUNT:
            planner.counted(archive.count(step.part))
        elif step.expected > deliverable:
            refused += 1

            assert not planner.undelivered()
            assert planner.page_rows < max(page_rows, step.expected)
        else:
            found = archive.answer(step.part)

            assert planner.received(len(found))
            received += found

    assert ids == received
    assert refused <= 6


def test_a_part_of_few_rows_lowers_no_page():
    """A part of a hundred rows that is not delivered is halved, and the next ones are as large as before."""
    planner = Planner(10**6, [Part(0, 10**6)])
    planner.next_step()
    planner.counted(MIN_PAGE_ROWS)

    assert not planner.undelivered()
    assert 10**6 == planner.page_rows


def test_what_came_before_of_an_id_that_is_not_delivered_does_not_lack():
    """One of two rows with one id came in an answer that was too short."""
    planner = Planner(10, [Part(3, 3)])
    planner.next_step()
    planner.counted(2)

    assert [False, True] == [planner.undelivered(1), planner.undelivered(1)]
    assert 1 == planner.lacking


@given(RUNS | IDS, st.integers(1, 2000), st.data())
def test_ids_that_are_not_delivered_are_lacking_and_no_others(ids, page_rows, data):
    """Parts with one of them are halved until each stands alone; it is asked for once more, and left out."""
    broken = set(data.draw(st.lists(st.sampled_from(ids), max_size=5))) if ids else set()
    archive, planner = Archive(ids), Planner(page_rows)
    received: list[int] = []
    while (step := planner.next_step()) is not None:
        if step.ask is Question.COUNT:
            planner.counted(archive.count(step.part))
        elif any(step.part.low <= id_ <= step.part.high for id_ in broken):
            is_one = step.part.low == step.part.high
            assert is_one or not planner.undelivered()
            if is_one:
                assert [False, True] == [planner.undelivered(), planner.undelivered()]
        else:
            found = archive.answer(step.part)
            assert planner.received(len(found))
            received += found

    assert received == [id_ for id_ in ids if id_ not in broken]
    assert len(broken) == planner.lacking


@given(st.integers(2, 50), st.data())
def test_the_page_falls_to_what_answers_hold(page_rows, data):
    """After an answer cut short, no more is expected of one answer than it held, or half of what was."""
    n_rows = data.draw(st.integers(0, page_rows - 1))
    planner = Planner(page_rows, [Part(0, 10**6)])
    planner.counted(page_rows)

    assert not planner.received(n_rows)
    assert min(page_rows, max(MIN_PAGE_ROWS, n_rows, page_rows // 2)) == planner.page_rows


def test_more_rows_than_counted_are_taken():
    """A source that was added after the count is no reason to ask again."""
    planner = Planner(10, [Part(0, 9)])
    planner.next_step()
    planner.counted(3)

    assert planner.received(4)
    assert None is planner.next_step()


def test_an_empty_catalogue_takes_one_count():
    """Where nothing is counted, nothing else is asked."""
    archive = Archive([])

    assert [] == harvested(Planner(10), archive)
    assert (1, 0) == (archive.counts, archive.rows)


SMALL = st.tuples(st.integers(-12, 30), st.integers(0, 9)).map(lambda t: Part(t[0], t[0] + t[1]))


@given(st.lists(SMALL, max_size=6), st.tuples(st.integers(-5, 25), st.integers(-5, 25)).map(lambda t: Part(*t)))
def test_gaps_are_what_is_left(finished, whole):
    """The gaps are exactly the rest, in order, none empty, none touching another."""
    left = gaps(finished, whole)
    rest = set(range(whole.low, whole.high + 1)) - {i for low, high in finished for i in range(low, high + 1)}

    assert rest == {i for low, high in left for i in range(low, high + 1)}
    assert all(low <= high for low, high in left)
    assert all(one.high + 1 < other.low for one, other in pairwise(left))


def test_gaps_of_nothing_finished_are_everything():
    """At first, all is to be had."""
    assert [Part(LOWEST, HIGHEST)] == gaps([])
