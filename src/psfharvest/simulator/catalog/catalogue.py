"""
The catalogue: every source of the three databases, and every exposure by name.

Rules: the real rows are always there; exactly six UVIS sources, all of them in ``real_rows.csv``, have
their centre in 100..102 in x and y.
"""

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from psfharvest.simulator.catalog.columns import COLUMNS, DETECTORS
from psfharvest.simulator.catalog.table import Table
from psfharvest.simulator.settings import Settings
from psfharvest.simulator.sky.synthesis import build


class Catalogue:
    """The three databases."""

    def __init__(self, settings: Settings) -> None:
        self.tables = {detector: build(detector, settings) for detector in DETECTORS}
        self._exposures = {
            rootname: (detector, index)
            for detector, table in self.tables.items()
            for index, rootname in enumerate(table.exposures.rootname.tolist())
        }

    def __getitem__(self, detector: str) -> Table:
        return self.tables[detector]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tables)

    def rows(self, detector: str) -> dict[str, NDArray[Any]]:
        """
        Give a whole database, sorted by id, as the archive would print it.

        Returns
        -------
        dict
            Column name to an array of shape ``(n_sources,)``; null is NaN or the empty string.
        """
        return {name: self.tables[detector].column(name) for name in COLUMNS[detector]}

    def exposure(self, rootname: str) -> tuple[Table, int] | None:
        """
        Find an exposure by name.

        Returns
        -------
        tuple or None
            The database, and the index into its ``exposures``.
        """
        found = self._exposures.get(rootname)
        return found and (self.tables[found[0]], found[1])
