"""Names that calls take, as types: an editor offers them, and a type checker finds one that is misspelt."""

from __future__ import annotations

from typing import Literal

DetectorName = Literal["UVIS", "IR", "WFPC2", "uvis", "ir", "wfpc2"]
"""In any case, where a type checker does not look."""
SuffixName = Literal["raw", "flt", "flc", "d0m", "c0m"]
ViaName = Literal["auto", "file", "bundle"]
"""How the cutouts of a harvest travel."""
StreamViaName = Literal["auto", "file", "fitscut"]
"""How those of a stream do."""
SinkName = Literal["files", "shards", "parquet"]
LayoutName = Literal["tree", "flat"]
FinalName = Literal["failed", "missing"]
"""States of which fresh attempts can be asked."""
