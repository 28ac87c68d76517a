"""Refusals: the same answer twice, a product's "there is none", and what may not be concluded from either."""

from __future__ import annotations

import pytest

from psfharvest.core.model import Evidence, Failure, Item, Outcome, Reason, State
from psfharvest.core.policy.refusals import (
    LEARNT_AFTER,
    PRODUCTS_MAX,
    VERDICTS_MAX,
    NoProductVerdicts,
    Refusals,
    may_mean_absent,
    product_of,
)


def item(number: int, root: str = "ibe802npq", suffix: str = "flc", refusal: bytes = b"") -> Item:
    key = f"WFC3PSF/{root}_{number}_F606W_{suffix}_cutout.fits"
    return Item(number, f"mast:{key}", key, 51, root, refusal=refusal)


def text(words: str = "no such file", reason: Reason = Reason.TEXT_PAGE, **more: object) -> Failure:
    given = {"fingerprint": words.encode(), "evidence": Evidence.ALIVE, "is_text": True, **more}
    return Failure(reason, words, **given)  # type: ignore[arg-type]


def test_the_same_answer_twice_is_final() -> None:
    """A second answer that equals the first is final; another one is not."""
    refusals = Refusals()

    assert not refusals.refused(item(1), text("a")).is_final
    assert refusals.refused(item(1, refusal=b"a"), text("a")).is_final
    assert not refusals.refused(item(1, refusal=b"a"), text("b")).is_final


def test_what_has_no_fingerprint_is_never_final() -> None:
    """Broken transfers and busy servers look alike each time and mean nothing."""
    failure = Failure(Reason.TIMEOUT, "no byte")

    assert not any(Refusals().refused(item(1), failure).is_final for _ in range(100))


def test_a_text_for_many_cutouts_of_a_product_means_that_there_is_none() -> None:
    """The twentieth cutout settles it for itself and for each that follows, by one request."""
    refusals = Refusals()
    judged = [refusals.refused(item(n), text()) for n in range(LEARNT_AFTER + 5)]

    assert [Reason.TEXT_PAGE] * (LEARNT_AFTER - 1) + [Reason.NO_PRODUCT] * 6 == [f.reason for f in judged]
    assert [False] * (LEARNT_AFTER - 1) + [True] * 6 == [f.is_final for f in judged]
    assert {"no such file"} == {f.detail for f in judged}
    assert Reason.NO_PRODUCT == refusals.refused(item(1, refusal=b"no such file"), text()).reason


@pytest.mark.parametrize("other", [{"root": "ibe802nqq"}, {"suffix": "flt"}])
def test_another_product_is_not_concerned(other: dict[str, str]) -> None:
    """What one product lacks, another may have."""
    refusals = Refusals()
    for n in range(LEARNT_AFTER):
        refusals.refused(item(n), text())

    assert not refusals.refused(item(99, **other), text()).is_final


def test_a_product_that_has_given_a_cutout_exists() -> None:
    """Its text is learnt, too, but settles a cutout as failed: another run asks for it again."""
    refusals = Refusals()
    refusals.given(item(1000))
    judged = [refusals.refused(item(n), text()) for n in range(LEARNT_AFTER + 1)]

    assert {Reason.TEXT_PAGE} == {f.reason for f in judged}
    assert judged[-1].is_final


def absent(one: Item) -> Outcome:
    return Outcome(one, State.MISSING, 1, reason=Reason.NO_PRODUCT)


def test_a_cutout_refutes_the_verdicts_on_its_product() -> None:
    """Those not recorded yet, and those that are: once each; never another product's, or another verdict."""
    refusals, absences = Refusals(), NoProductVerdicts()
    verdicts = [absent(item(n)) for n in range(3)]
    other, gone = absent(item(7, suffix="flt")), Outcome(item(8), State.MISSING, 1, reason=Reason.NOT_FOUND)
    assert (verdicts, []) == refusals.standing(verdicts)
    assert not absences.recorded([*verdicts, other, gone])
    refusals.given(item(1000))

    assert ([other, gone], [item(0)._replace(attempts=1)]) == refusals.standing([verdicts[0], other, gone])
    done = Outcome(item(1000), State.DONE, 1)
    assert [0, 1, 2, 3] == sorted(absences.recorded([done, absent(item(3))]))
    assert not absences.recorded([done])
    assert [7] == absences.recorded([Outcome(item(9, suffix="flt"), State.DONE, 1)])


@pytest.mark.campaign
def test_verdicts_that_can_be_refuted_are_bounded() -> None:
    """The oldest products are forgotten first."""
    absences = NoProductVerdicts()
    absences.recorded(absent(item(n, root=f"i{n:08}")) for n in range(VERDICTS_MAX + 1))

    assert not absences.recorded([Outcome(item(0, root="i00000000"), State.DONE, 1)])
    assert [1] == absences.recorded([Outcome(item(5, root="i00000001"), State.DONE, 1)])


def test_one_cutout_asked_often_is_one_cutout() -> None:
    """Retries teach nothing new of a product."""
    refusals = Refusals()
    for _ in range(100):
        judged = refusals.refused(item(1, refusal=b"no such file"), text())

    assert Reason.TEXT_PAGE == judged.reason


@pytest.mark.parametrize(
    ("failure", "speaks"),
    [
        (text(), True),
        (text("HTTP 500: no such file", Reason.SERVER_ERROR), True),
        (text("HTTP 400: dataset is not available", Reason.HTTP_ERROR), True),
        (text("HTTP 500: Internal Server Error", Reason.SERVER_ERROR), False),
        (text("HTTP 500", Reason.SERVER_ERROR), False),
        (text("Bad Gateway."), False),
        (text("HTTP 401: log in to read this product", Reason.UNAUTHORIZED), False),
        (text("HTTP 403: this product is not public", Reason.FORBIDDEN), False),
        (text("HTTP 429: quota of this product used up", Reason.RATE_LIMITED), False),
        (text("no such file", Reason.HTML_PAGE, is_text=False), False),
        (text("51x50 instead of 51x51", Reason.WRONG_SHAPE, is_text=False), False),
    ],
)
def test_only_words_can_say_that_there_is_none(failure: Failure, speaks: bool) -> None:
    """A status phrase, a web page, a check of ours and an answer that concerns who asks say nothing of it."""
    assert speaks is may_mean_absent(failure)


def test_an_outages_answers_are_forgotten() -> None:
    """What came during an outage teaches nothing."""
    refusals = Refusals()
    for n in range(LEARNT_AFTER):
        refusals.refused(item(n), text())
    refusals.forget()

    assert not refusals.refused(item(99), text()).is_final


def test_memory_is_bounded() -> None:
    """However many products there are, so many are remembered."""
    refusals = Refusals()
    for n in range(PRODUCTS_MAX + 100):
        refusals.refused(item(n, root=f"i{n:08}"), text())
        refusals.given(item(n, root=f"i{n:08}"))

    assert PRODUCTS_MAX == len(refusals._met) == len(refusals._given)


def test_products() -> None:
    """A product is an exposure and a suffix; a file that is no cutout is none."""
    assert "ibe802npq_flc" == product_of(item(1))
    assert "" == product_of(Item(1, "mast:X/a_b_c_d.fits", "X/a_b_c_d.fits"))
