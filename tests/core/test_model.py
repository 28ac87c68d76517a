"""The values of a harvest: accounts that add up, and settings that make sense."""

import json
import math
import pickle
from dataclasses import fields
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfharvest.core import account
from psfharvest.core.errors import BadInput
from psfharvest.core.model import (
    PUBLIC_CEILING,
    Limits,
    Reason,
    Report,
    RetryPolicy,
    State,
    Tally,
)
from psfharvest.core.reasons import REMEDY

COUNTS = st.integers(0, 10**9)
STOPS = {"interrupted": 130, "terminated": 143, "local_error": 74}


def report(done: int = 0, missing: int = 0, failed: int = 0, pending: int = 0, **more: object) -> Report:
    """Give an account that adds up."""
    total = done + missing + failed + pending
    return Report(total, done, missing, failed, pending, bytes=0, elapsed_s=1.23456, requests=0, **more)


@given(COUNTS, COUNTS, COUNTS, COUNTS, st.integers(-5, 5))
def test_an_account_adds_up_or_is_none(done, missing, failed, pending, error):
    """A report whose states do not sum up to its total cannot be made."""
    total = done + missing + failed + pending

    assert total == Tally(done, missing, failed, pending).total
    if error:
        with pytest.raises(ValueError, match="does not add up"):
            Report(total + error, done, missing, failed, pending, bytes=0, elapsed_s=0, requests=0)
    else:
        assert total == report(done, missing, failed, pending).total


@given(
    st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.integers(0, 2),
    st.sampled_from(["", "archive_down", *STOPS]), st.booleans(),
)  # fmt: skip
def test_exit_statuses(done, missing, failed, pending, stopped, is_fully_asked):
    """The exit status is DESIGN 3.1's, whatever the account."""
    status = report(done, missing, failed, pending, stopped=stopped, is_fully_asked=is_fully_asked).exit_status

    if stopped in STOPS:
        assert STOPS[stopped] == status
    elif stopped or pending or not is_fully_asked:
        assert 75 == status
    elif missing or failed:
        assert 3 == status
    else:
        assert 0 == status


@pytest.mark.parametrize(
    ("account", "status"),
    [({}, 0), ({"done": 5}, 0), ({"done": 5, "missing": 1}, 3), ({"failed": 1}, 3), ({"pending": 1}, 75),
     ({"failed": 1, "pending": 1}, 75), ({"done": 5, "is_fully_asked": False}, 75),
     ({"pending": 1, "stopped": "archive_down"}, 75), ({"pending": 1, "stopped": "interrupted"}, 130),
     ({"failed": 1, "stopped": "local_error"}, 74), ({"stopped": "terminated"}, 143)],
    ids=str,
)  # fmt: skip
def test_exit_status_table(account, status):
    """Each kind of end has its own status."""
    assert status == report(**account).exit_status


def test_a_report_is_plain_json():
    """The account goes into JSON as it is, with the keys that scripts rely on."""
    account = report(1, 1, 0, 2, reasons={Reason.NOT_FOUND: 1}, notes=("a sentence",), via={"file": 2})
    plain = json.loads(json.dumps(account.to_dict()))

    assert {"total", "done", "missing", "failed", "pending", "bytes", "elapsed_s", "requests", "reasons"} <= set(
        plain
    )
    assert (4, {"not_found": 1}, ["a sentence"], 1.235) == (
        plain["total"], plain["reasons"], plain["notes"], plain["elapsed_s"],
    )  # fmt: skip
    assert account == pickle.loads(pickle.dumps(account))


NEVER = [math.nan, math.inf, -math.inf, -1, 1e300, 10**400, "4", True, None, Decimal("nan")]
SETTINGS = [
    *((Limits, f.name, 0) for f in fields(Limits)),
    *((RetryPolicy, f.name, None if f.name == "patience_s" else 0) for f in fields(RetryPolicy)),
]
WHOLE = ["max_connections", "max_body_bytes", "page_rows", "attempts"]


@pytest.mark.parametrize(("made", "name", "too_small"), SETTINGS, ids=lambda part: getattr(part, "__name__", part))
def test_settings_refuse_what_arithmetic_cannot_use(made, name, too_small):
    """No number that is not finite, in range, and whole where it counts gets in; the message names the range."""
    optional = getattr(made(), name) is None
    for value in [*NEVER, too_small, *([1.5] if name in WHOLE else [])]:
        if value is None and (optional or too_small is None):
            continue
        with pytest.raises(BadInput, match=rf"^{name} is .*: a (whole )?number.* from .* to .* is allowed$"):
            made(**{name: value})


@pytest.mark.parametrize(("made", "name", "too_small"), SETTINGS, ids=lambda part: getattr(part, "__name__", part))
def test_settings_take_every_kind_of_number(made, name, too_small):
    """Integers, floats that are whole, and numpy's numbers are numbers."""
    for value in (4, 4.0, np.int64(4), np.float32(4)):
        assert 4 == getattr(made(**{name: value}), name)


@given(st.none() | st.integers(1, 10_000))
def test_the_public_archive_never_gets_more_than_ten_connections(max_connections):
    """On the public archive 6 is the default and 10 the most; other hosts have no ceiling but the asked one."""
    limits = Limits(max_connections=max_connections)

    assert PUBLIC_CEILING == 10
    assert (6 if max_connections is None else min(10, max_connections)) == limits.connections(is_public=True)
    assert (32 if max_connections is None else max_connections) == limits.connections(is_public=False)


def test_every_reason_has_a_remedy():
    """People are told what to do about each reason."""
    assert set(Reason) == set(REMEDY)
    assert ["pending", "done", "missing", "failed"] == list(State)


def test_an_account_in_a_notebook_is_no_page_of_the_archives() -> None:
    """Words that came from elsewhere stand in it as words, and not as HTML."""
    report = Report(1, 0, 0, 1, 0, 0, 1.0, 2, reasons={"http_error": 1}, notes=("<script>x</script>",))

    assert "<script>" in account.text(report)
    assert "<script>" not in account.html(report)
    assert "&lt;script&gt;" in account.html(report)
