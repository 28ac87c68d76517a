"""When the archive is held to be down: DESIGN 3.4, "Outage", rule by rule, then against a simple model."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from psfharvest.core.model import Evidence, Failure, Reason, RetryPolicy
from psfharvest.core.policy.health import Health
from psfharvest.core.policy.retry import MAX_SLEEP_S

FAILURES = {
    "R": Failure(Reason.REFUSED, "no connection", evidence=Evidence.UNREACHABLE),
    "5": Failure(Reason.SERVER_ERROR, "HTTP 503", evidence=Evidence.ERRING),
    "9": Failure(Reason.RATE_LIMITED, "HTTP 429", evidence=Evidence.ERRING),
    "L": Failure(Reason.SERVER_ERROR, "HTTP 503", retry_after_s=601.0, evidence=Evidence.ERRING),
    "l": Failure(Reason.SERVER_ERROR, "HTTP 503", retry_after_s=600.0, evidence=Evidence.ERRING),
    "T": Failure(Reason.TIMEOUT, "no byte", evidence=Evidence.NONE),
    "4": Failure(Reason.NOT_FOUND, "HTTP 404", evidence=Evidence.ALIVE),
}


def is_down_after(story: str, n_subjects: int = 10**6) -> bool:
    """Tell a story, a letter a request (``.`` is a good one), over so many cutouts in turn."""
    health = Health(RetryPolicy())
    for now, letter in enumerate(story):
        if letter == ".":
            health.alive()
        else:
            health.trouble(FAILURES[letter], now % n_subjects, float(now), 0.5)
    return health.is_down


@pytest.mark.parametrize(
    ("story", "n_subjects", "is_down"),
    [
        # refused or failed connections on the last three requests, at any size of harvest
        (".RRR", 1, True), ("RRR", 10, True), (".RR", 10, False), (".RR.R", 10, False), (".RR4R", 10, False),
        (".RRTR", 10, False), (".RR5R", 10, False), (".TTTTTTTTTTTTTTT", 100, False), (".R.R.R.R", 10, False),
        # 5xx or 429 for all of the last ten requests over as many different cutouts
        (".5555555555", 10, True), (".9999999999", 10, True), (".5959595959", 10, True), (".555555555", 10, False),
        (".55555.55555", 20, False), (".5555545555", 20, False), (".555T555555", 20, False),
        # a handful of bad cutouts on a live archive
        ("." + "5" * 90, 9, False), ("." + "5" * 90, 1, False), ("." + "9" * 90, 3, False),
        # nothing but 5xx since the run began
        ("5", 1, True), ("9", 1, False), (".5", 1, False), ("45", 1, False), ("T5", 1, False), ("R5", 1, True),
        # a longer pause asked for than we sleep, for more than one cutout
        (".L", 1, False), (".LL", 2, True), (".ll", 2, False), (".l", 1, False),
        # one sensible answer ends it
        ("5.", 10, False), ("RRR4", 10, False), (".RRRRRR.R", 10, False), ("RRR4RR", 10, False),
        # no other one does
        ("RRRT", 10, True), ("555R", 10, True), ("RRRTTTT", 10, True),
    ],
)  # fmt: skip
def test_outages(story, n_subjects, is_down):
    """An outage is declared on the archive's own failures, over different cutouts, and ends with one answer."""
    assert is_down is is_down_after(story, n_subjects)


def test_retries_among_them_do_not_hide_an_outage():
    """Retries come between new cutouts: ten different ones count, however often each failed."""
    health = Health(RetryPolicy())
    health.alive()
    subjects = [0, 1, 0, 1, 2, 3, 2, 3, 4, 0, 5, 6, 4, 7, 8, 5, 9]
    verdicts = [health.trouble(FAILURES["5"], subject, 0.0, 0.5) for subject in subjects]

    assert [False] * 16 + [True] == verdicts


def test_what_failed_while_others_were_served_says_nothing_of_the_archive():
    """Twenty cutouts that met 5xx between good answers use up their attempts; twenty new ones are an outage."""
    health = Health(RetryPolicy())
    for subject in range(20):
        health.alive()
        health.trouble(FAILURES["5"], subject, 0.0, 0.5)
    health.alive()

    assert not any(health.trouble(FAILURES["5"], subject, 0.0, 0.5) for _ in range(3) for subject in range(20))
    assert [False] * 9 + [True] == [health.trouble(FAILURES["5"], subject, 0.0, 0.5) for subject in range(20, 30)]


def test_the_patience_counts_from_the_first_trouble():
    """An outage began with the first of the requests that showed it."""
    health = Health(RetryPolicy())
    health.alive()
    for now in (100.0, 101.0, 102.0):
        health.trouble(FAILURES["R"], now, now, 0.5)

    assert 100.0 == health.down_since
    assert 160.0 == health.gives_up_at(60.0, -math.inf)
    assert 260.0 == health.gives_up_at(60.0, 200.0)
    assert "no connection" == health.words


def test_old_trouble_that_passed_is_not_part_of_an_outage():
    """Trouble followed by connections that stood, if only broken ones, does not use up the patience."""
    health = Health(RetryPolicy())
    health.trouble(FAILURES["R"], 0, 0.0, 0.5)
    health.trouble(FAILURES["T"], 1, 10.0, 0.5)
    for now in (5000.0, 5001.0, 5002.0):
        health.trouble(FAILURES["R"], now, now, 0.5)

    assert 5000.0 == health.down_since


def test_without_an_outage_nobody_gives_up():
    """The patience is with outages only."""
    assert math.inf == Health(RetryPolicy()).gives_up_at(0.0, 5.0)


def test_probes_back_off():
    """Each probe that fails doubles the time to the next, up to the policy's longest."""
    health = Health(RetryPolicy(first_delay_s=1, max_delay_s=20))
    now, waits = 0.0, []
    for _ in range(8):
        health.trouble(FAILURES["5"], "one", now, 0.0)
        waits.append(health.probe_at - now)
        now = health.probe_at

    assert [0.5, 1, 2, 4, 8, 10, 10, 10] == waits


def test_requests_that_were_on_their_way_are_no_probes():
    """A hundred requests that fail at one blow put the first probe off no longer than one does."""
    health = Health(RetryPolicy(first_delay_s=1, max_delay_s=60))
    for n in range(100):
        health.trouble(FAILURES["5"], n, n / 1000, 0.0)

    assert 0.5 == health.probe_at


def test_a_probe_waits_as_long_as_the_archive_asks_up_to_ten_minutes():
    """Retry-After goes before the back-off, also when it comes from a straggler, but for 600 s at most."""
    health = Health(RetryPolicy())
    health.trouble(FAILURES["5"], 0, 0.0, 0.5)
    health.trouble(FAILURES["5"]._replace(retry_after_s=30.0), 1, 0.0, 0.5)

    assert 30.0 == health.probe_at
    health.trouble(FAILURES["L"], 0, 30.0, 0.5)

    assert 30.0 + MAX_SLEEP_S == health.probe_at


class AgainstModel(RuleBasedStateMachine):
    """Any run of answers, judged by the rules as DESIGN has them, on the whole past."""

    @initialize()
    def begin(self):
        self.health = Health(RetryPolicy())
        self.now = 0.0
        self.past: list[tuple[str, int]] = []
        self.is_down = False
        self.known_bad: set[int] = set()
        self.down: list[bool] = []

    def judged(self) -> bool:
        """Give the rules' verdict on the past; only what came since the last good or broken answer counts."""
        letters = [letter for letter, _ in self.past]
        recent = []
        for letter, subject in reversed(self.past):
            if letter in ".4T":
                break
            recent.append((letter, subject))
        distinct = {subject for letter, subject in recent if letter != "R" and self.speaks(letter, subject)}
        return (
            self.is_unreachable(recent)
            or len(distinct) >= 10
            or (not set(letters) & set(".4T") and letters[-1] in "5lL")
            or (letters[-1] == "L" and len(distinct) > 1)
        )

    def speaks(self, letter: str, subject: int) -> bool:
        """Say whether a failure speaks against the archive: not 5xx for what is known to be bad."""
        return letter == "9" or subject not in self.known_bad

    def blamed(self) -> set[int]:
        """What met 5xx since the last good answer, or the last broken one outside an outage."""
        found = set()
        for (letter, subject), was_down in zip(reversed(self.past), reversed(self.down), strict=True):
            if letter == "T" and not was_down:
                break
            found |= {subject} if letter in "5lL" else set()
        return found

    @staticmethod
    def is_unreachable(recent: list[tuple[str, int]]) -> bool:
        return [letter for letter, _ in recent[:3]] == ["R"] * 3

    def tell(self, letter: str, subject: int) -> None:
        self.now += 1
        if letter in ".4":
            self.known_bad |= self.blamed()
            self.past, self.down, self.is_down = [(".", 0)], [False], False
        else:
            is_its_own = letter in "5lL" and subject in self.known_bad and not self.is_down
            self.past.append((letter, subject))
            self.down.append(self.is_down)
            self.is_down = self.is_down or (letter != "T" and not is_its_own and self.judged())
        if letter == ".":
            self.health.alive()
            return
        is_lost = self.health.trouble(FAILURES[letter], subject, self.now, 0.5)

        assert self.is_down is is_lost

    @rule(letter=st.sampled_from("RRR555599TlL.4"), subject=st.integers(0, 20))
    def one(self, letter, subject):
        self.tell(letter, subject)

    @rule(letter=st.sampled_from("59"), first=st.integers(0, 20), n=st.integers(1, 12), step=st.integers(0, 2))
    def many(self, letter, first, n, step):
        for k in range(n):
            self.tell(letter, first + k * step)

    @invariant()
    def agrees(self):
        if not hasattr(self, "health"):
            return

        assert self.is_down is self.health.is_down
        assert self.health.gives_up_at(0.0, -math.inf) <= self.now or not self.is_down
        assert self.health.is_down or len(self.health._erring) < 10


TestAgainstModel = AgainstModel.TestCase
TestAgainstModel.settings = settings(max_examples=50, stateful_step_count=30)
