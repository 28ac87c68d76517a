"""The outage ledger: what an outage takes back, what a good answer lets stand, each exactly once."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from psfharvest.core.model import Item, Outcome, Reason, State
from psfharvest.engine.outage_ledger import HELD_MAX, OutageLedger


def item(number: int, attempts: int = 0) -> Item:
    return Item(number, f"mast:X/{number}.fits", f"X/{number}.fits", attempts=attempts)


def failed(number: int, attempts: int = 1) -> Outcome:
    return Outcome(item(number, attempts - 1), State.FAILED, attempts, reason=Reason.SERVER_ERROR)


def test_a_sensible_answer_lets_held_failures_stand() -> None:
    """What is held comes out once the archive has answered, and only then."""
    ledger = OutageLedger()
    ledger.charge(1)
    ledger.hold(failed(1))

    assert [] == ledger.saw_alive(0, is_down=False)
    assert [failed(1)] == ledger.saw_alive(1, is_down=False)
    assert [] == ledger.saw_alive(2, is_down=False)
    assert 0 == len(ledger)


def test_an_outage_takes_held_failures_back_with_their_attempts() -> None:
    """Three charged attempts before the declaration leave the item as it was before them."""
    ledger = OutageLedger()
    for _ in range(3):
        ledger.charge(1)
    ledger.hold(failed(1, attempts=5))

    stands, (outcome,) = ledger.saw_failures(is_down=True)

    assert [] == stands
    assert 2 == outcome.item.attempts
    assert 0 == len(ledger)


def test_an_outage_refunds_items_that_wait_for_another_attempt() -> None:
    """A charged attempt of an item that is not final is given back when it is sent next, once."""
    ledger = OutageLedger()
    ledger.charge(1)
    ledger.saw_failures(is_down=True)

    assert 0 == ledger.refunded(item(1, attempts=1)).attempts
    assert 1 == ledger.refunded(item(1, attempts=1)).attempts


def test_a_refund_reaches_an_item_that_was_under_way() -> None:
    """A request that was on its way when the outage began counts as the first."""
    ledger = OutageLedger()
    ledger.charge(1)
    ledger.saw_failures(is_down=True)

    assert 1 == ledger.attempts_after(item(1, attempts=1))
    assert 2 == ledger.attempts_after(item(1, attempts=1))


def test_a_done_item_has_no_refunds_left() -> None:
    """What was refunded and is done is forgotten."""
    ledger = OutageLedger()
    ledger.charge(1)
    ledger.saw_failures(is_down=True)
    ledger.forget(1)

    assert 1 == ledger.refunded(item(1, attempts=1)).attempts


def test_an_outage_that_goes_on_takes_nothing_back_again() -> None:
    """Only the declaration takes back; failures noted during the outage stay held until it ends."""
    ledger = OutageLedger()
    ledger.saw_failures(is_down=True)
    ledger.hold(failed(1))

    assert ([], []) == ledger.saw_failures(is_down=True)
    assert [] == ledger.saw_alive(1, is_down=True)
    assert [failed(1)] == ledger.saw_alive(1, is_down=False)


def test_what_is_held_is_bounded() -> None:
    """More held failures than an outage takes to show are let stand."""
    ledger = OutageLedger()
    for number in range(HELD_MAX + 1):
        ledger.hold(failed(number))

    assert HELD_MAX + 1 == len(ledger.saw_failures(is_down=False).stands)


@given(
    st.lists(st.one_of(st.tuples(st.sampled_from(["fail", "hold"]), st.integers(1, 5)), st.sampled_from("adu"))),
)
def test_any_order_of_events_keeps_the_account(events: list[object]) -> None:
    """Every held failure comes out once, and an outage takes back exactly the attempts charged on the way."""
    ledger = OutageLedger()
    held, out, charged = Counter[int](), Counter[int](), Counter[int]()
    n_alive, is_down = 0, False
    for event in events:
        match event:
            case ("fail", int(number)) if held[number] == out[number]:  # what is held is not sent
                ledger.charge(number)
                charged[number] += 1
            case ("hold", int(number)) if held[number] == out[number]:
                ledger.charge(number)
                ledger.hold(failed(number, attempts=charged[number] + 3))
                held[number] += 1
                charged[number] += 1
            case "a":
                n_alive, is_down = n_alive + 1, False
                out.update(o.item.number for o in ledger.saw_alive(n_alive, is_down=False))
                charged.clear()
                ledger.saw_failures(is_down=False)
            case "d":
                release = ledger.saw_failures(is_down=True)
                out.update(o.item.number for o in release.taken_back)
                assert not release.stands
                assert all(2 == o.item.attempts for o in release.taken_back)
                if not is_down:
                    charged.clear()
                is_down = True
            case _:
                assert ledger.refunded(item(3, attempts=2)).attempts >= 0

    out.update(o.item.number for o in ledger.settle())

    assert held == out
