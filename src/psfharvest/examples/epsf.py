"""From a query to an effective PSF: ``python -m psfharvest.examples.epsf FOLDER [ARCHIVE_URL]``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from psfharvest import Harvest, Query, blocking
from psfharvest.plot import contact_sheet


def main(folder: Path, url: str | None = None) -> Any:
    """Download 200 bright, unsaturated stars, draw their effective PSF into the folder, and return it."""
    query = Query("UVIS", filter="F814W", n_sat_pixels=0, psf_flux=(2e4, None), psf_x_center=(60, 4030), limit=200)
    with blocking.Archive(url) as archive:
        archive.harvest(query, folder, suffixes=["flc"])  # again, it goes on where it stopped
    stars = Harvest(folder)
    model = stars.epsf(oversampling=4)  # photutils' ImagePSF; a star is the model times its psf_flux
    contact_sheet([model.data[62:143, 62:143]], folder / "epsf.png", titles=[f"ePSF of {len(stars)} stars"])
    return model


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
