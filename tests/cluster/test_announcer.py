"""Events of a harvest on a cluster: their sums are the change of the account, whatever the head gets to see."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from psfharvest import events
from psfharvest.cluster.announcer import COUNTS, Announcer
from psfharvest.core.model import Progress, Report, Tally
from psfharvest.events.hub import Hub

COUNT = st.integers(0, 1000)


@st.composite
def sums(draw: st.DrawFn) -> dict[str, int]:
    return {name: draw(COUNT) for name in COUNTS}


def report_of(counts: dict[str, int], reasons: dict[str, int] | None = None) -> Report:
    done, missing, failed, size_bytes = (counts[name] for name in COUNTS)
    return Report(done + missing + failed, done, missing, failed, 0, size_bytes, 1.0, 0, reasons=reasons or {})


def progress_of(counts: dict[str, int], outage: str) -> Progress:
    done, missing, failed, size_bytes = (counts[name] for name in COUNTS)
    tally = Tally(done, missing, failed, 7, size_bytes)
    return Progress(tally, None, 0, 0, 2, 0, 1.0, outage=outage, outage_s=3.0, patience_s=60.0)


@given(st.none() | sums(), st.lists(st.tuples(sums(), st.sampled_from(["", "no answer"]))), sums())
def test_sums_are_the_change_of_the_account(
    before: dict[str, int] | None, looks: list[tuple[dict[str, int], str]], after: dict[str, int]
) -> None:
    """A part whose worker died may seem to have less for a while, and an account may begin anywhere."""
    seen: list[events.Event] = []
    announcer = Announcer(Hub().voice(listener=seen.append), None if before is None else report_of(before))
    announcer.ended(report_of(after))  # of what has not started: nothing
    assert not seen
    announcer.started(folder="d", archive="a", sink="shards", via="auto", expected=None, connections=2)
    for counts, outage in looks:
        announcer.progress(progress_of(counts, outage))
    assert not any(isinstance(event, events.TakenBack) for event in seen)
    for _ in range(2):
        announcer.ended(report_of(after, {"not_found": 2}))
    assert [events.Ended] == [type(event) for event in seen if isinstance(event, events.Ended)]

    signs = {events.Settled: 1, events.TakenBack: -1}
    for name in COUNTS:
        change = sum(signs[type(event)] * getattr(event, name) for event in seen if type(event) in signs)
        assert after[name] - (0 if before is None else before[name]) == change
    downs = [type(event) for event in seen if isinstance(event, events.Down | events.Up)]
    assert all(one is not other for one, other in zip(downs, downs[1:], strict=False))
    assert len(looks) == sum(isinstance(event, events.Pulse) for event in seen)
