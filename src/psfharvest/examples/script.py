"""A plain script, without await: ``python -m psfharvest.examples.script FOLDER [ARCHIVE_URL]``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from psfharvest import Harvest, Query, blocking


def main(folder: Path, url: str | None = None) -> str:
    """Download 100 stars, resumably, and return what their mean looks like."""
    query = Query("UVIS", filter="F606W", n_sat_pixels=0, limit=100)
    with blocking.Archive(url) as archive:
        report = archive.harvest(query, folder, suffixes=["flt"])  # again, it goes on where it stopped
    stars = Harvest(folder)
    mean = np.nanmean(np.stack([star.data for star in stars]), axis=0)
    y, x = np.unravel_index(np.argmax(mean), mean.shape)
    return f"{report.done} of {report.total} stars; their mean peaks at x={x}, y={y}"


if __name__ == "__main__":
    sys.stdout.write(f"{main(Path(sys.argv[1]), *sys.argv[2:3])}\n")
