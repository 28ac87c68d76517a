"""The names that calls are typed with are those that are known at run time."""

from __future__ import annotations

from typing import get_args

from psfharvest import DetectorName, LayoutName, SinkName, SuffixName, ViaName
from psfharvest.core.catalog.detectors import DETECTORS, SUFFIX_MEANING
from psfharvest.run.job import VIAS
from psfharvest.store.sink_kinds import SINK_KINDS


def test_types_name_what_there_is() -> None:
    """No detector, suffix, way, sink or layout lacks its name in the types, and none is named that is not there."""
    upper = {name for name in get_args(DetectorName) if name.isupper()}
    assert {name.lower() for name in upper} == set(get_args(DetectorName)) - upper
    assert upper == set(DETECTORS)
    assert set(get_args(SuffixName)) == set(SUFFIX_MEANING)
    assert set(get_args(ViaName)) == set(VIAS)
    assert set(get_args(SinkName)) == set(SINK_KINDS)
    assert {"tree", "flat"} == set(get_args(LayoutName))
