"""After a failure: again, and when; or never."""

import math
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from psfharvest.core.model import Evidence, Failure, Reason, RetryPolicy, State
from psfharvest.core.policy.retry import (
    MAX_SLEEP_S,
    Again,
    Final,
    answered_at,
    backoff_s,
    classify_status,
    decide,
    parse_retry_after,
    retrying,
)

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
DRAWS = st.floats(0, 1, exclude_max=True)
POLICIES = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 50),
    first_delay_s=st.floats(0.001, 1e4),
    max_delay_s=st.floats(0.001, 1e5),
)
MISSING = {Reason.NOT_FOUND, Reason.OFF_DETECTOR, Reason.NO_PRODUCT}
NEVER_AGAIN = {Reason.UNAUTHORIZED, Reason.FORBIDDEN, Reason.BAD_URI}


@given(st.sampled_from(Reason), st.none() | st.floats(0, 1e9), st.integers(1, 60), POLICIES, DRAWS)
def test_decide(reason, retry_after_s, attempts, policy, draw):
    """What is missing stays so, what is refused or used up has failed, all else waits as long as is allowed."""
    decision = decide(Failure(reason, retry_after_s=retry_after_s), attempts, policy, draw)

    if reason in MISSING:
        assert Final(State.MISSING) == decision
    elif reason in NEVER_AGAIN or attempts >= policy.attempts:
        assert Final(State.FAILED) == decision
    else:
        assert isinstance(decision, Again)
        assert min(retry_after_s or 0, MAX_SLEEP_S) <= decision.delay_s <= MAX_SLEEP_S
        assert min(backoff_s(attempts, policy, draw), MAX_SLEEP_S) <= decision.delay_s


@given(st.integers(1, 10_000), POLICIES, DRAWS)
def test_backoff_stays_within_its_bounds(n_failures, policy, draw):
    """The delay doubles from the first to the longest, and half of it is drawn."""
    whole = min(policy.first_delay_s * 2.0 ** min(n_failures - 1, 200), policy.max_delay_s)

    assert math.isclose(whole * (0.5 + draw / 2), backoff_s(n_failures, policy, draw))
    assert backoff_s(n_failures, policy, 0) <= backoff_s(n_failures + 1, policy, 0)


def test_an_asked_pause_is_slept_but_for_ten_minutes_at_most():
    """Retry-After goes before the back-off, up to 600 s."""
    policy = RetryPolicy()

    assert Again(7.0) == decide(Failure(Reason.SERVER_ERROR, retry_after_s=7.0), 1, policy, 0.5)
    assert Again(600.0) == decide(Failure(Reason.SERVER_ERROR, retry_after_s=86_400.0), 1, policy, 0.5)


@given(st.integers(0, 10**11), st.sampled_from(["{}", " {} ", "00{}"]))
def test_retry_after_in_seconds(seconds, form):
    """Seconds are read as they stand."""
    assert float(seconds) == parse_retry_after(form.format(seconds)[:12], NOW) or len(form.format(seconds)) > 12


@given(st.integers(-(10**6), 10**8))
def test_retry_after_as_a_date(seconds):
    """An HTTP date is so many seconds from now, and none when it is past."""
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)

    assert max(0.0, float(seconds)) == parse_retry_after(date, NOW)


DATE_LIKE = st.text(st.sampled_from("MonTueNov 0123456789:,-+GMTZ"), max_size=40)


@given(st.none() | st.text() | DATE_LIKE | st.builds("Sun, {} Nov {} {}:{}:{} {}".format, *[st.integers()] * 6))
@example("9" * 5000)
@example("Mon, 01 Jan 99999999999999999999 00:00:00 GMT")
@example("Mon, 01 Jan 2030 00:00:00 +9999999999")
@example("²")
@example("-5")
@example("1.5")
@example("nan")
@example("Sun, 22 Nov 2026 09:00:05 -0000")
def test_retry_after_of_any_text(text):
    """Nonsense is as good as nothing; whatever is understood is a finite wait."""
    wait_s = parse_retry_after(text, NOW)

    assert wait_s is None or 0 <= wait_s < math.inf


@pytest.mark.parametrize("text", [None, "", "  ", "soon", "-5", "1.5", "nan", "٣", "Sun, 99 Nov 2026 09:00:05 GMT"])
def test_retry_after_that_says_nothing(text):
    """What is in neither form is ignored."""
    assert None is parse_retry_after(text, NOW)


def test_retry_after_without_a_zone_is_in_utc():
    """A date whose zone is unknown is taken as UTC."""
    assert 5.0 == parse_retry_after("Sun, 22 Nov 2026 09:00:05 -0000", NOW)


@pytest.mark.parametrize(
    ("status", "reason", "evidence", "wait_s"),
    [(400, Reason.HTTP_ERROR, Evidence.ALIVE, None), (401, Reason.UNAUTHORIZED, Evidence.ALIVE, None),
     (403, Reason.FORBIDDEN, Evidence.ALIVE, None), (404, Reason.NOT_FOUND, Evidence.ALIVE, None),
     (410, Reason.NOT_FOUND, Evidence.ALIVE, None), (416, Reason.HTTP_ERROR, Evidence.ALIVE, None),
     (429, Reason.RATE_LIMITED, Evidence.ERRING, 9.0), (500, Reason.SERVER_ERROR, Evidence.ERRING, None),
     (502, Reason.SERVER_ERROR, Evidence.ERRING, None), (503, Reason.SERVER_ERROR, Evidence.ERRING, 9.0),
     (504, Reason.SERVER_ERROR, Evidence.ERRING, None), (599, Reason.SERVER_ERROR, Evidence.ERRING, None),
     (304, Reason.HTTP_ERROR, Evidence.ALIVE, None), (600, Reason.HTTP_ERROR, Evidence.ALIVE, None)],
)  # fmt: skip
def test_statuses(status, reason, evidence, wait_s):
    """Each status has its reason, and 5xx and 429 speak against the archive; 429 and 503 may ask to wait."""
    expected = Failure(reason, f"HTTP {status}: words", wait_s, evidence, status)

    assert expected == classify_status(status, "9", "words", NOW)
    assert f"HTTP {status}" == classify_status(status, None, "", NOW).detail


class Hiccup(Exception):
    """A failure that may pass."""

    def __init__(self, retry_after_s: float | None = None) -> None:
        super().__init__()
        self.failure = Failure(Reason.SERVER_ERROR, retry_after_s=retry_after_s)


class Clockwork:
    """A sleep that takes no time, and adds up what it was asked for."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Note the seconds."""
        self.slept.append(seconds)


def loop(policy: RetryPolicy, clock: Clockwork):
    """Give a retry loop for hiccups."""
    return retrying(policy, clock.sleep, random.Random(1).random, lambda error: isinstance(error, Hiccup))


async def attempt(policy: RetryPolicy, clock: Clockwork, errors: list[Exception]) -> int:
    """Fail with each of the errors in turn, then give the number of attempts."""
    left = list(errors)
    async for one in loop(policy, clock):
        with one:
            if left:
                raise left.pop(0)
            return one.retry_state.attempt_number
    raise AssertionError("a loop ends by a value or an error")


async def test_retrying_goes_on_until_it_works():
    """A request that fails for a while is repeated with back-off, however often; attempts do not limit it."""
    clock = Clockwork()

    assert 9 == await attempt(RetryPolicy(attempts=2, first_delay_s=1), clock, [Hiccup() for _ in range(8)])
    assert all(2**n / 2 <= slept <= 2**n for n, slept in enumerate(clock.slept[:6]))
    assert all(30 <= slept <= 60 for slept in clock.slept[6:])


async def test_retrying_obeys_retry_after():
    """The archive's own wish goes before the back-off, up to 600 s."""
    clock = Clockwork()
    await attempt(RetryPolicy(), clock, [Hiccup(45.0), Hiccup(10_000.0), Hiccup()])

    assert [45.0, 600.0] == clock.slept[:2]
    assert clock.slept[2] < 2


async def test_retrying_raises_other_errors_at_once():
    """What is not transient is raised itself, without a sleep."""
    clock = Clockwork()
    with pytest.raises(KeyError):
        await attempt(RetryPolicy(), clock, [KeyError("x")])

    assert [] == clock.slept


async def test_retrying_ends_with_the_last_error_when_the_patience_does():
    """A delay that would end past the patience is not begun; the error itself comes out."""
    clock = Clockwork()
    last = Hiccup(30.0)
    with pytest.raises(Hiccup) as caught:
        await attempt(RetryPolicy(patience_s=20), clock, [Hiccup(), last])

    assert last is caught.value
    assert 1 == len(clock.slept)


async def test_without_patience_there_is_one_attempt():
    """A patience of nothing allows no sleep."""
    clock = Clockwork()
    with pytest.raises(Hiccup):
        await attempt(RetryPolicy(patience_s=0), clock, [Hiccup()])

    assert [] == clock.slept


@given(POLICIES, st.lists(DRAWS, min_size=50, max_size=50))
def test_the_sum_of_the_delays_is_bounded(policy, draws):
    """All attempts of one cutout together wait no longer than the longest delay for each."""
    waits = [decide(Failure(Reason.RESET), n, policy, draws[n - 1]) for n in range(1, policy.attempts + 1)]

    assert Final(State.FAILED) == waits[-1]
    assert sum(w.delay_s for w in waits[:-1]) <= (policy.attempts - 1) * min(policy.max_delay_s, MAX_SLEEP_S)


@pytest.mark.parametrize("skew_s", [-86_400, -30, 0, 30, 86_400])
@pytest.mark.parametrize("status", [429, 503])
def test_a_date_is_meant_on_the_servers_clock(skew_s: int, status: int) -> None:
    """A server whose clock is wrong still asks for the seconds that it means; without its Date ours stands in."""
    own = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
    theirs = own + timedelta(seconds=skew_s)
    later = format_datetime(theirs + timedelta(seconds=3), usegmt=True)

    told = classify_status(status, later, "", answered_at(format_datetime(theirs, usegmt=True), own))

    assert told.retry_after_s == 3
    assert own == answered_at(None, own) == answered_at("no date", own)
