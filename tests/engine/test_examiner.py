"""The examination of a check that refuses all: nothing is asked for again before a control request is answered."""

from __future__ import annotations

from psfharvest.core.model import Delivery, Failure, Item, Limits, Reason, RetryPolicy
from psfharvest.core.policy.suspicion import SUSPECT_AFTER, Suspicion
from psfharvest.engine.archive_limiter import ArchiveLimiter
from psfharvest.engine.examiner import Examiner


async def test_the_probe_waits_for_the_control_request() -> None:
    """Only its good answer lets one cutout be asked for again; one that was sent before does not count."""
    limiter = ArchiveLimiter(Limits(), RetryPolicy(), is_public=False)
    with limiter.share():
        examiner = Examiner(Suspicion(), limiter, lambda: None)
        limiter.doubt()
        limiter.begin_turn()
        assert limiter.takes_control()
        limiter.controlled(None)
        failure = Failure(Reason.WRONG_SHAPE, "49x49", rule="wrong_shape")
        for n in range(SUSPECT_AFTER):
            key = f"WFC3PSF/i{n:08}_{n}_F606W_flt_cutout.fits"
            item = Item(n, f"mast:{key}", key, 51, f"i{n:08}")
            assert examiner.holds(Delivery(item, None, failure=failure), failure)

        for _ in range(3):
            examiner.turn(1.0, is_idle=True, is_fed=True)
            assert not examiner.probe(1)
        assert limiter.takes_control()
        limiter.controlled(None)
        examiner.turn(2.0, is_idle=True, is_fed=True)
        assert 1 == len(examiner.probe(1))
