"""Suspect products wait at the end, and one probe of each is seen before the rest is sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from psfharvest.core.model import Item
from psfharvest.core.policy.deferral import DEFERRED_MAX, Deferral


def item(number: int, root: str = "a") -> Item:
    return Item(number, f"mast:{number}", f"WFC3PSF/{root}_{number}_F606W_flt_cutout.fits", 51, root)


def suspecting(*roots: str) -> Deferral:
    deferral = Deferral()
    for n, root in enumerate(roots):
        deferral.failed(item(-n, root))
    deferral.suspect()
    return deferral


def test_items_of_a_suspect_product_wait() -> None:
    """Others do not."""
    deferral = suspecting("a")

    assert deferral.takes(item(1))
    assert not deferral.takes(item(2, "b"))
    assert 1 == len(deferral)


def test_one_probe_a_product_and_then_the_rest() -> None:
    """No second item is sent before the probe's answer has been seen, whatever it was."""
    deferral = suspecting("a", "b")
    for n in range(1, 7):
        deferral.takes(item(n, "ab"[n % 2]))

    assert [1, 2] == sorted(i.number for i in deferral.probes(10))
    assert [] == deferral.probes(10)
    assert [4, 6] == [i.number for i in deferral.seen(2)]
    assert [3, 5] == [i.number for i in deferral.seen(1)]
    assert not deferral
    assert not deferral.takes(item(9))


def test_what_came_meanwhile_clears_a_product() -> None:
    """Failures before a good answer make no product suspect."""
    deferral = Deferral()
    deferral.failed(item(1))
    deferral.clear()
    deferral.suspect()

    assert not deferral


def test_files_that_are_no_cutouts_are_never_suspect() -> None:
    """They have no product."""
    deferral = Deferral()
    deferral.failed(Item(1, "mast:X/1.fits", "X/1.fits"))
    deferral.suspect()

    assert not deferral


def test_so_many_wait_and_no_more() -> None:
    """Further items are sent in their turn."""
    deferral = suspecting("a")

    assert DEFERRED_MAX == sum(deferral.takes(item(n)) for n in range(DEFERRED_MAX + 10))


class Life:
    """A queue, and what went in and came out."""

    def __init__(self) -> None:
        self.deferral = Deferral()
        self.n = 0
        self.taken: list[int] = []
        self.probes: list[int] = []
        self.out: list[int] = []

    def take(self, root: str) -> None:
        self.n += 1
        self.taken += [self.n] if self.deferral.takes(item(self.n, root)) else []

    def fail(self, root: str) -> None:
        self.deferral.failed(item(0, root))

    def suspect(self, _: str) -> None:
        self.deferral.suspect()

    def probe(self, _: str) -> None:
        self.probes += [i.number for i in self.deferral.probes(2)]

    def see(self, _: str) -> None:
        if self.probes:
            number = self.probes.pop(0)
            self.out += [number, *(i.number for i in self.deferral.seen(number))]


@given(st.lists(st.tuples(st.sampled_from(["take", "fail", "suspect", "probe", "see"]), st.sampled_from("abc"))))
def test_every_item_taken_comes_out_once(events: list[tuple[str, str]]) -> None:
    """In any order of events."""
    life = Life()
    for event, root in events:
        getattr(life, event)(root)
    while life.deferral or life.probes:
        life.probe("")
        life.see("")

    assert life.taken == sorted(life.out)
    assert 0 == len(life.deferral)
