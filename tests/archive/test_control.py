"""The control request of the fetcher of files: a broken transfer is asked for once more, an answer is not."""

from __future__ import annotations

import pytest

from psfharvest.archive.endpoints import Endpoints
from psfharvest.archive.fetch.single import FileFetcher
from psfharvest.archive.wires.base import Wire
from psfharvest.archive.wires.curl import CurlWire
from psfharvest.archive.wires.httpx_wire import HttpxWire
from psfharvest.core.model import Failure, Item, Limits, Reason, RetryPolicy
from psfharvest.engine.archive_limiter import ArchiveLimiter
from psfharvest.simulator import Fault, Simulator

URI = (
    "mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibc302ioq_flt[1]&size=11&x=99.4127&y=100.2683"
    "&format=fits/ibc302ioq_8184981_F814W_flt_cutout.fits"
)


@pytest.mark.parametrize("make", [CurlWire, HttpxWire])
@pytest.mark.parametrize(
    ("faults", "n_requests", "reason"),
    [
        ([], 1, None),
        ([Fault("truncate", at=0.5, times=1)], 2, None),
        ([Fault("truncate", at=0.5)], 2, Reason.TRUNCATED),
        ([Fault("empty", times=1)], 2, None),
        ([Fault("reset", at=0.5, times=1)], 2, None),
        ([Fault("status", code=503, times=1)], 1, Reason.SERVER_ERROR),
    ],
    ids=["good", "cut once", "cut twice", "empty once", "reset once", "503"],
)
async def test_a_broken_transfer_is_asked_for_once_more(
    simulator: Simulator, make: type[Wire], faults: list[Fault], n_requests: int, reason: Reason | None
) -> None:
    """Only what broke twice, or was answered, is the control's answer; each request is counted."""
    simulator.faults = faults
    limits = Limits()
    limiter = ArchiveLimiter(limits, RetryPolicy(), is_public=False)
    wire = make()

    async def count() -> Failure | None:
        raise AssertionError("a cutout is known to be good")

    try:
        fetcher = FileFetcher(wire, limiter, Endpoints(simulator.url), limits, count=count)
        fetcher.know_good([Item(1, URI, URI.removeprefix("mast:"), 11, "ibc302ioq")])
        limiter.doubt()
        limiter.begin_turn()
        assert limiter.takes_control()
        failure = await fetcher.control()
        limiter.controlled(failure)
    finally:
        await wire.aclose()

    assert reason == (failure and failure.reason)
    assert n_requests == simulator.count("file") == limiter.requests
