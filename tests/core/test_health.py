"""The circuit breaker: DESIGN 3.4, "Outage", rule by rule, then against a simple model."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from psfharvest.core.model import Evidence, Failure, Reason, RetryPolicy
from psfharvest.core.policy.health import SIMULTANEOUS_S, STREAK_MAX, STREAK_MIN, CircuitBreaker
from psfharvest.core.policy.retry import MAX_SLEEP_S
from sampling import examples

FAILURES = {
    "R": Failure(Reason.REFUSED, "no connection", evidence=Evidence.UNREACHABLE),
    "5": Failure(Reason.SERVER_ERROR, "HTTP 503", evidence=Evidence.ERRING),
    "9": Failure(Reason.RATE_LIMITED, "HTTP 429", evidence=Evidence.ERRING),
    "N": Failure(Reason.RATE_LIMITED, "HTTP 429", retry_after_s=601.0, evidence=Evidence.ERRING),
    "L": Failure(Reason.SERVER_ERROR, "HTTP 503", retry_after_s=601.0, evidence=Evidence.ERRING),
    "l": Failure(Reason.SERVER_ERROR, "HTTP 503", retry_after_s=600.0, evidence=Evidence.ERRING),
    "T": Failure(Reason.TIMEOUT, "no byte", evidence=Evidence.NONE),
    "4": Failure(Reason.NOT_FOUND, "HTTP 404", evidence=Evidence.ALIVE),
    "3": Failure(Reason.FORBIDDEN, "HTTP 403", evidence=Evidence.ALIVE),
    "H": Failure(Reason.HTML_PAGE, "maintenance", evidence=Evidence.ALIVE),
}
ALIVE, DOUBTED, DOWN = "alive", "doubted", "down"


def state(breaker: CircuitBreaker) -> str:
    return DOWN if breaker.is_down else DOUBTED if breaker.is_doubted else ALIVE


def tell(story: str, n_subjects: int = 10**6) -> CircuitBreaker:
    """
    Tell a story, a letter a request, over so many cutouts in turn.

    ``.`` is a good answer; ``!`` and ``x`` are control requests, answered and not.
    """
    breaker = CircuitBreaker(RetryPolicy())
    for now, letter in enumerate(story):
        if letter == ".":
            breaker.success()
        elif letter in "!x":
            breaker.begin_control()
            breaker.end_control(None if letter == "!" else FAILURES["5"], float(now), 0.5)
        else:
            breaker.failure(FAILURES[letter], now % n_subjects, float(now), 0.5)
    return breaker


@pytest.mark.parametrize(
    ("story", "n_subjects", "expected"),
    [
        # refused or failed connections on the last three requests, at any size of harvest
        (".RRR", 1, DOWN), ("RRR", 10, DOWN), (".RR", 10, ALIVE), (".RR.R", 10, ALIVE), (".RR4R", 10, ALIVE),
        (".RRTR", 10, ALIVE), (".RR5R", 10, ALIVE), (".R.R.R.R", 10, ALIVE),
        # ten different cutouts in a row cast doubt, whatever they met; nothing but that
        *[("." + letter * 10, 20, DOUBTED) for letter in "5943HT"],
        *[("." + letter * 9, 20, ALIVE) for letter in "5943HT"],
        (".5959595959", 20, DOUBTED), (".5H4T35H4T3", 20, DOUBTED), (".55555.55555", 20, ALIVE),
        # few cutouts, however often
        ("." + "5" * 90, 9, ALIVE), ("." + "4" * 90, 1, ALIVE), ("." + "9" * 90, 3, ALIVE),
        # the first requests of a run are like any other
        ("5", 1, ALIVE), ("9", 1, ALIVE), ("555555555", 10, ALIVE), ("5555555555", 10, DOUBTED),
        # the control request decides
        (".5555555555x", 20, DOWN), (".5555555555!", 20, ALIVE), ("4444444444x", 20, DOWN),
        # after one that was answered, a longer streak is needed
        (".5555555555!" + "5" * 19, 99, ALIVE), (".5555555555!" + "5" * 20, 99, DOUBTED),
        (".5555555555!.5555555555", 99, DOUBTED),
        # a longer pause asked for than we sleep: by 429 for the host, by 503 perhaps
        ("N", 1, DOWN), (".L", 1, DOUBTED), (".L!", 1, ALIVE), (".Lx", 1, DOWN), (".l", 1, ALIVE),
        # a good answer ends an outage, any other needs a control request
        ("RRR.", 10, ALIVE), ("RRR!", 10, ALIVE), ("RRR4", 10, DOWN), ("RRRT", 10, DOWN), ("RRR.RR", 10, ALIVE),
    ],
)  # fmt: skip
def test_outages(story, n_subjects, expected):
    """An outage is declared on evidence about the archive, and ends with one good answer."""
    assert expected == state(tell(story, n_subjects))


def test_retries_among_them_do_not_hide_a_streak():
    """Retries come between new cutouts: ten different ones count, however often each failed."""
    breaker = CircuitBreaker(RetryPolicy())
    breaker.success()
    subjects = [0, 1, 0, 1, 2, 3, 2, 3, 4, 0, 5, 6, 4, 7, 8, 5, 9]
    doubted = []
    for subject in subjects:
        breaker.failure(FAILURES["5"], subject, 0.0, 0.5)
        doubted.append(breaker.is_doubted)

    assert [False] * 16 + [True] == doubted


def test_control_requests_are_few_in_a_long_streak():
    """Six hundred cutouts that the archive does not have cost a handful of control requests."""
    breaker, n_controls = CircuitBreaker(RetryPolicy()), 0
    for subject in range(600):
        breaker.failure(FAILURES["4"], subject, 0.0, 0.5)
        if breaker.wants_control:
            n_controls += 1
            breaker.begin_control()
            breaker.end_control(None, 0.0, 0.5)

    assert 4 <= n_controls <= 8
    assert STREAK_MIN < breaker._streak_max <= STREAK_MAX


def test_a_good_answer_does_not_settle_a_doubt():
    """It may be one to a request that was sent before."""
    breaker = tell(".4444444444.", 20)

    assert breaker.wants_control


def test_a_probe_that_meets_an_answer_is_followed_by_a_control_request():
    """What was probed may itself be bad; a probe without a connection says enough."""
    for letter, expected in (("4", True), ("5", True), ("T", True), ("R", False)):
        breaker = tell("RRR")
        breaker.failure(FAILURES[letter], 1, breaker.probe_at, 0.5)

        assert expected is breaker.wants_control


def test_an_archive_that_forbids_everything_ends_the_patience_at_once():
    """A control request answered by 403 is a ban."""
    breaker = tell("3333333333")
    breaker.begin_control()
    breaker.end_control(FAILURES["3"], 20.0, 0.5)

    assert breaker.is_banned
    assert -math.inf == breaker.gives_up_at(3600.0, 0.0)


def test_the_patience_counts_from_the_first_trouble():
    """An outage began with the first of the requests that showed it."""
    breaker = CircuitBreaker(RetryPolicy())
    breaker.success()
    for now in (100.0, 101.0, 102.0):
        breaker.failure(FAILURES["R"], now, now, 0.5)

    assert 100.0 == breaker.down_since
    assert 160.0 == breaker.gives_up_at(60.0, -math.inf)
    assert 260.0 == breaker.gives_up_at(60.0, 200.0)
    assert "no connection" == breaker.words


def test_a_gap_in_the_clock_is_no_part_of_an_outage():
    """The patience goes on where it was."""
    breaker = tell("RRR")
    breaker.skip(1000.0)

    assert 1060.0 == breaker.gives_up_at(60.0, -math.inf)


def test_without_an_outage_nobody_gives_up():
    """The patience is with outages only."""
    assert math.inf == CircuitBreaker(RetryPolicy()).gives_up_at(0.0, 5.0)


def test_probes_back_off():
    """Each probe that fails doubles the time to the next, up to the policy's longest."""
    breaker = CircuitBreaker(RetryPolicy(first_delay_s=1, max_delay_s=20))
    now, waits = 0.0, []
    for _ in range(10):
        breaker.failure(FAILURES["R"], "one", now, 0.0)
        waits.append(breaker.probe_at - now)
        now = max(now, breaker.probe_at)

    assert [0, 0, 0.5, 1, 2, 4, 8, 10, 10, 10] == waits


def test_requests_that_were_on_their_way_are_no_probes():
    """A hundred requests that fail at one blow put the first probe off no longer than one does."""
    breaker = CircuitBreaker(RetryPolicy(first_delay_s=1, max_delay_s=60))
    for n in range(100):
        breaker.failure(FAILURES["R"], n, n / 1000, 0.0)

    assert 0.502 == breaker.probe_at
    assert not breaker.wants_control


def test_a_probe_waits_as_long_as_the_archive_asks_up_to_ten_minutes():
    """Retry-After goes before the back-off, also when it comes from a straggler, but for 600 s at most."""
    breaker = tell("RRR")
    breaker.failure(FAILURES["5"]._replace(retry_after_s=30.0), 1, 2.0, 0.5)

    assert 32.0 == breaker.probe_at
    breaker.failure(FAILURES["L"], 0, 32.0, 0.5)

    assert 32.0 + MAX_SLEEP_S == breaker.probe_at


class AgainstModel(RuleBasedStateMachine):
    """Any run of answers, judged by the rules as DESIGN has them, on the whole past."""

    @initialize()
    def begin(self):
        self.breaker = CircuitBreaker(RetryPolicy())
        self.now = 0.0
        self.past: list[tuple[str, int]] = []
        self.expected = ALIVE
        self.needed = STREAK_MIN

    @rule(letter=st.sampled_from("RRR555599TlL4H"), first=st.integers(0, 20), n=st.integers(1, 12))
    def fails(self, letter, first, n):
        for subject in range(first, first + n):
            self.now += 1
            self.past.append((letter, subject))
            is_lost = self.breaker.failure(FAILURES[letter], subject, self.now, 0.5)
            if self.expected != DOWN:
                if [a for a, _ in self.past[-3:]] == ["R"] * 3:
                    self.expected = DOWN
                elif len({s for _, s in self.past}) >= self.needed or letter == "L":
                    self.expected = DOUBTED
            assert is_lost is (self.expected == DOWN)

    @rule()
    def comes(self):
        self.breaker.success()
        self.past.clear()
        self.needed = STREAK_MIN
        self.expected = DOUBTED if self.breaker.is_doubted else ALIVE
        if self.breaker.is_doubted:
            self.control(is_good=True)

    @rule(is_good=st.booleans())
    def control(self, is_good):
        if not self.breaker.wants_control:
            return
        self.breaker.begin_control()
        self.breaker.end_control(None if is_good else FAILURES["5"], self.now, 0.5)
        self.past.clear() if is_good or self.expected != DOWN else None
        self.needed = min(2 * self.needed, STREAK_MAX) if is_good else self.needed
        self.expected = ALIVE if is_good else DOWN

    @invariant()
    def agrees(self):
        if not hasattr(self, "breaker"):
            return

        assert self.expected == state(self.breaker)
        assert self.breaker.gives_up_at(0.0, -math.inf) <= self.now or not self.breaker.is_down


TestAgainstModel = AgainstModel.TestCase
TestAgainstModel.settings = settings(max_examples=examples(50), stateful_step_count=30)


@pytest.mark.parametrize(
    ("control", "is_outage"),
    [
        (Failure(Reason.NOT_FOUND, evidence=Evidence.ALIVE, status=404), True),
        (Failure(Reason.SERVER_ERROR, evidence=Evidence.ERRING, status=500), True),
        (Failure(Reason.REFUSED, evidence=Evidence.UNREACHABLE), True),
        (Failure(Reason.SERVER_ERROR, evidence=Evidence.ERRING, status=501), False),
        (Failure(Reason.HTTP_ERROR, evidence=Evidence.ALIVE, status=405), False),
        (Failure(Reason.TEXT_PAGE, evidence=Evidence.ALIVE), False),
    ],
)
def test_a_control_request_that_fails_otherwise_shows_no_outage(control: Failure, is_outage: bool) -> None:
    """Cutouts meet 404, and the query service is not offered: the 404 are the cutouts' own."""
    breaker = CircuitBreaker(RetryPolicy())
    missing = Failure(Reason.NOT_FOUND, evidence=Evidence.ALIVE, status=404)
    for n in range(10):
        assert not breaker.failure(missing, n, 1.0 + n, 0.5)
    assert breaker.wants_control
    breaker.begin_control()
    breaker.end_control(control, 20.0, 0.5)

    assert is_outage == breaker.is_down


def test_connections_that_fail_together_are_one_try() -> None:
    """Those of one moment count once, later ones again; none does once any connection has come about."""
    breaker = CircuitBreaker(RetryPolicy())
    for now in (0.0, 0.0, SIMULTANEOUS_S / 2, SIMULTANEOUS_S, SIMULTANEOUS_S, 10.0):
        breaker.failure(FAILURES["R"], "a", now, 0.5)
    assert 3 == breaker.failed_connections

    breaker.failure(FAILURES["4"], "b", 20.0, 0.5)
    n_before = breaker.failed_connections
    breaker.failure(FAILURES["R"], "a", 30.0, 0.5)
    assert n_before == breaker.failed_connections
