"""The outage ledger: what an outage takes back, what a proof of life lets stand, each exactly once."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from psfharvest.core.model import Item, Outcome, Reason, State
from psfharvest.engine.outage_ledger import DIRECT_MAX, OutageLedger


def item(number: int, attempts: int = 0) -> Item:
    return Item(number, f"mast:X/{number}.fits", f"X/{number}.fits", attempts=attempts)


def failed(number: int, attempts: int = 1, reason: Reason = Reason.SERVER_ERROR) -> Outcome:
    return Outcome(item(number, attempts - 1), State.FAILED, attempts, reason=reason)


def holding(*outcomes: Outcome) -> OutageLedger:
    ledger = OutageLedger()
    for outcome in outcomes:
        ledger.charge(outcome.item.number)
        ledger.hold(outcome)
    return ledger


def test_a_request_sent_later_proves_that_the_archive_lived() -> None:
    """A good answer to what was sent before a verdict proves nothing of the time after it."""
    ledger = holding(failed(1))

    assert [] == ledger.came(7)
    ledger.sent([item(8), item(9)])
    assert [] == ledger.came(7)
    assert [failed(1)] == ledger.came(9)
    assert 0 == len(ledger)


def test_a_verdict_after_the_witness_was_sent_waits_for_the_next_one() -> None:
    """Each verdict needs a witness of its own time."""
    ledger = holding(failed(1))
    ledger.sent([item(8)])
    ledger.hold(failed(2))

    assert [failed(1)] == ledger.came(8)
    ledger.sent([item(9)])
    assert [failed(2)] == ledger.came(9)


def test_witnesses_that_fail_are_followed_by_others() -> None:
    """Once all have failed, what is sent next takes their place."""
    ledger = holding(failed(1))
    ledger.sent([item(8)])
    ledger.failed(8)
    ledger.sent([item(9)])

    assert [failed(1)] == ledger.came(9)


def test_a_control_request_lets_stand_what_was_held_before_it() -> None:
    """What came while it was under way waits on."""
    ledger = holding(failed(1))
    ledger.control_begun()
    ledger.hold(failed(2))

    assert [failed(1)] == ledger.control_passed()
    assert 1 == len(ledger)


def test_an_outage_takes_verdicts_back_with_their_attempts() -> None:
    """Three charged attempts before the declaration leave the item as it was before them."""
    ledger = OutageLedger()
    ledger.charge(1, 3)
    ledger.hold(failed(1, attempts=5))

    (outcome,) = ledger.outage(1)

    assert 2 == outcome.item.attempts
    assert 0 == len(ledger)


def test_an_outage_refunds_items_that_wait_for_another_attempt() -> None:
    """A charged attempt of an item that is not final is given back when it is sent next, once."""
    ledger = OutageLedger()
    ledger.charge(1)
    ledger.outage(1)

    assert 0 == ledger.refunded(item(1, attempts=1)).attempts
    assert 1 == ledger.refunded(item(1, attempts=1)).attempts


def test_a_refund_reaches_an_item_that_was_under_way() -> None:
    """A request that was on its way when the outage began counts as the first."""
    ledger = OutageLedger()
    ledger.charge(1)
    ledger.outage(1)

    assert 1 == ledger.attempts_after(item(1, attempts=1))
    assert 2 == ledger.attempts_after(item(1, attempts=1))


def test_few_plain_answers_need_no_control_request() -> None:
    """One or two 404 at the end of a run stand; more, or any other failure, need a proof."""
    missing = [failed(n, reason=Reason.NOT_FOUND) for n in range(DIRECT_MAX)]

    assert not holding(*missing[1:]).needs_control
    assert holding(*missing).needs_control
    assert holding(failed(1)).needs_control


class Life:
    """A ledger, and beside it what must come of it."""

    def __init__(self) -> None:
        self.ledger = OutageLedger()
        self.charged: Counter[int] = Counter()
        self.held: dict[int, int] = {}
        """Verdicts not yet out, with the time of each."""
        self.proofs: dict[int, int] = {}
        """When each item under way was sent."""
        self.now = 0

    def out(self, outcomes: list[Outcome], proved_at: int) -> None:
        for outcome in outcomes:
            assert self.held.pop(outcome.item.number) < proved_at
            assert 2 + self.charged.pop(outcome.item.number) == outcome.attempts

    def do(self, event: tuple[str, int]) -> None:
        self.now += 1
        match event:
            case ("fail", number):
                self.proofs.pop(number, None)
                self.ledger.failed(number)
                if number not in self.held:
                    self.ledger.charge(number)
                    self.charged[number] += 1
            case ("hold", number) if number not in self.held:
                self.ledger.charge(number)
                self.charged[number] += 1
                self.ledger.hold(failed(number, attempts=2 + self.charged[number]))
                self.held[number] = self.now
            case ("send", number) if number not in self.held and number not in self.proofs:
                self.ledger.sent([item(number)])
                self.proofs[number] = self.now
            case ("come", number) if number in self.proofs:
                self.out(self.ledger.came(number), self.proofs.pop(number))
            case ("outage", _):
                for outcome in self.ledger.outage(self.now):
                    del self.held[outcome.item.number]
                    assert outcome.item.attempts <= 1 + self.charged.pop(outcome.item.number)
                assert not self.held
                self.charged.clear()


@given(
    st.lists(
        st.tuples(st.sampled_from(["fail", "hold", "send", "send", "come", "come", "outage"]), st.integers(1, 6)),
        max_size=80,
    )
)
def test_any_order_of_events_keeps_the_account(events: list[tuple[str, int]]) -> None:
    """Every verdict comes out once, after a proof that began later than it, or by an outage."""
    life = Life()
    for event in events:
        life.do(event)
    left = life.ledger.settle()

    assert sorted(life.held) == sorted(outcome.item.number for outcome in left)
