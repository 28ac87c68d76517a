"""Suspicion of our own checks: when one is suspected, what proves it, and what is judged as usual."""

from __future__ import annotations

import pytest

from psfharvest.core.fits import names
from psfharvest.core.model import Delivery, Failure, Item, Reason
from psfharvest.core.policy.suspicion import PRODUCTS_MIN, SUSPECT_AFTER, Suspicion


def item(number: int, root: str = "", suffix: str = "flt", filter_name: str = "F606W") -> Item:
    root = root or f"i{number:08}"
    key = f"WFC3PSF/{root}_{number}_{filter_name}_{suffix}_cutout.fits"
    return Item(number, f"mast:{key}", key, 51, root)


def refused(suspicion: Suspicion, one: Item, reason: Reason = Reason.WRONG_SHAPE, rule: str = "") -> bool:
    """Return whether a refusal is held back."""
    failure = Failure(reason, "what came", rule=rule or reason.value)
    return suspicion.holds(Delivery(one, None, failure=failure), failure)


def test_the_twentieth_different_cutout_raises_suspicion() -> None:
    """The same one again does not; the probe that is refused again confirms it, and the words name the rule."""
    suspicion = Suspicion()
    for n in [*range(1, SUSPECT_AFTER), 1, 2, 3]:
        assert refused(suspicion, item(n))
        assert suspicion.suspect is None
    assert suspicion.n_wanted() == 1
    assert refused(suspicion, item(SUSPECT_AFTER))
    suspect = suspicion.suspect
    assert suspect is not None

    suspicion.begin_probe()
    probe = suspicion.probe()
    assert probe is not None
    assert suspicion.probe() is None
    assert refused(suspicion, probe)
    assert suspect.is_confirmed
    assert "wrong_shape" in suspicion.words()
    assert len(suspicion) == SUSPECT_AFTER


def test_a_cutout_proves_the_check_of_its_detector_and_suffix_alone() -> None:
    """What is held of those is given back to be judged; another suffix and another detector are held on."""
    suspicion = Suspicion()
    others = [item(100, suffix="flc"), item(101, filter_name="F160W")]
    for one in (item(1), *others):
        assert refused(suspicion, one)

    assert [1] == [delivery.item.number for delivery in suspicion.came(item(2))]
    assert not refused(suspicion, item(3))
    assert all(refused(suspicion, one) for one in others)
    assert {"UVIS flt"} == suspicion.proven


@pytest.mark.parametrize(("n_products", "is_suspected"), [(PRODUCTS_MIN - 1, False), (PRODUCTS_MIN, True)])
def test_a_page_in_place_of_files_needs_several_exposures(n_products: int, is_suspected: bool) -> None:
    """One exposure may have no such product."""
    suspicion = Suspicion()
    for n in range(3 * SUSPECT_AFTER):
        refused(suspicion, item(n, root=f"i{n % n_products:08}"), Reason.HTML_PAGE)

    assert is_suspected == (suspicion.suspect is not None)


@pytest.mark.parametrize("rule", names.DIFFERENCES)
def test_one_way_to_write_names_is_accepted(rule: str) -> None:
    """All of them are asked for again; where one differs in another way, the check is suspected instead."""
    suspicion, mixed = Suspicion(), Suspicion()
    other = next(name for name in names.DIFFERENCES if name != rule)
    for n in range(SUSPECT_AFTER):
        refused(suspicion, item(n), Reason.WRONG_SOURCE, rule)
        refused(mixed, item(n), Reason.WRONG_SOURCE, rule if n else other)

    assert {rule} == suspicion.accepted
    assert list(range(SUSPECT_AFTER)) == [one.number for one in suspicion.again()]
    assert suspicion.suspect is None
    assert not mixed.accepted
    assert mixed.suspect is not None


def test_what_was_given_up_is_not_held_again() -> None:
    """It is judged as usual from then on; another cutout is held."""
    suspicion = Suspicion()
    refused(suspicion, item(1))

    assert [1] == [delivery.item.number for delivery in suspicion.give_up()]
    assert not refused(suspicion, item(1))
    assert refused(suspicion, item(2))


def test_an_outage_takes_all_back() -> None:
    """Also the probe that has not been sent; what was refused does not count any more."""
    suspicion = Suspicion()
    for n in range(SUSPECT_AFTER):
        refused(suspicion, item(n))
    suspicion.begin_probe()

    assert list(range(SUSPECT_AFTER)) == sorted(one.number for one in suspicion.take_back())
    assert (0, None) == (len(suspicion), suspicion.suspect)
    assert refused(suspicion, item(99))
    assert suspicion.suspect is None


@pytest.mark.parametrize("accepted", ["wrong_shape", "html_page"])
def test_what_is_accepted_is_never_held(accepted: str) -> None:
    """Nor is what the archive refuses, which no check of ours has named."""
    suspicion = Suspicion([accepted])

    assert not refused(suspicion, item(1), Reason(accepted))
    failure = Failure(Reason.NOT_FOUND, "HTTP 404")
    assert not suspicion.holds(Delivery(item(2), None, failure=failure), failure)
