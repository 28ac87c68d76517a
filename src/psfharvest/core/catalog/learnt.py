"""Observed properties of an archive: of its queries, cutouts and bundles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Ends(NamedTuple):
    """Which ends of a range the archive includes."""

    low: bool = True
    high: bool = True


@dataclass(slots=True)
class Learnt:
    """
    What an archive turned out to do; None or empty where nothing was noticed.

    Attributes
    ----------
    page_rows
        The number of rows that one answer can hold; more failed.
    ends
        Which ends of a range are included.
    counts
        Whether ``COUNT_BIG(*)`` is answered; False: totals are read from ``paging``.
    is_star
        Whether ``*`` is answered; False: the known columns are asked for by name.
    absent
        By detector: known columns that its catalogue lacks.
    unfiltered
        Detectors whose catalogue takes no criterion on ``id``: their rows are read page by page.
    quirks
        Names of the quirks that its cutouts have; see `psfharvest.core.fits.quirks`.
    no_product
        ``status`` and ``text`` of its answer for a product that does not exist, where that is no 404.
    bundles
        Whether bundles can be used; False: ``auto`` goes by file.
    seconds
        What one cutout took, by ``file`` and in a ``bundle``.
    """

    page_rows: int | None = None
    ends: Ends | None = None
    counts: bool = True
    is_star: bool = True
    absent: dict[str, list[str]] = field(default_factory=dict)
    unfiltered: list[str] = field(default_factory=list)
    quirks: list[str] = field(default_factory=list)
    no_product: dict[str, int | str] = field(default_factory=dict)
    bundles: bool | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def lacks(self, detector: str, column: str) -> bool:
        """Return True when a detector's catalogue was seen to lack a column."""
        return column in self.absent.get(detector, ())

    def note_absent(self, detector: str, column: str) -> None:
        """Keep in mind that a detector's catalogue lacks a column."""
        if not self.lacks(detector, column):
            self.absent.setdefault(detector, []).append(column)

    def to_dict(self) -> dict[str, Any]:
        """Return what was noticed as plain values for JSON."""
        absent = {name: sorted(columns) for name, columns in self.absent.items()}
        values: tuple[tuple[str, Any, Any], ...] = (
            ("page_rows", self.page_rows, None),
            ("ends_inclusive", None if self.ends is None else list(self.ends), None),
            ("counts", self.counts, True),
            ("all_columns_at_once", self.is_star, True),
            ("absent_columns", absent, {}),
            ("id_is_no_criterion", sorted(self.unfiltered), []),
            ("quirks", sorted(self.quirks), []),
            ("no_product", dict(self.no_product), {}),
            ("bundles", self.bundles, None),
            ("seconds", dict(self.seconds), {}),
        )
        return {name: value for name, value, unknown in values if value != unknown}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Learnt:
        """Return what `to_dict` gave as `plain`; what cannot be is left out."""
        new = cls()
        page_rows, ends, absent = plain.get("page_rows"), plain.get("ends_inclusive"), plain.get("absent_columns")
        if isinstance(page_rows, int) and page_rows >= 1:
            new.page_rows = page_rows
        if isinstance(ends, list) and len(ends) == 2 and all(isinstance(end, bool) for end in ends):
            new.ends = Ends(*ends)
        new.counts = plain.get("counts") is not False
        new.is_star = plain.get("all_columns_at_once") is not False
        if isinstance(absent, dict):
            new.absent = {str(k): [str(c) for c in v] for k, v in absent.items() if isinstance(v, list)}
        unfiltered = plain.get("id_is_no_criterion")
        new.unfiltered = [str(name) for name in unfiltered] if isinstance(unfiltered, list) else []
        quirks, bundles = plain.get("quirks"), plain.get("bundles")
        new.quirks = [str(name) for name in quirks] if isinstance(quirks, list) else []
        new.bundles = bundles if isinstance(bundles, bool) else None
        no_product, seconds = plain.get("no_product"), plain.get("seconds")
        if isinstance(no_product, dict):
            new.no_product = {str(k): v for k, v in no_product.items() if isinstance(v, (int, str))}
        if isinstance(seconds, dict):
            new.seconds = {str(k): float(v) for k, v in seconds.items() if isinstance(v, (int, float))}
        return new
