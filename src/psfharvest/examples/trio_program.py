"""Two detectors at once on trio, each under its own deadline: ``python -m psfharvest.examples.trio_program``."""

from __future__ import annotations

import sys

import trio

from psfharvest import Archive, DetectorName, Query, SuffixName

DEADLINE_S = 60.0


async def brightest(archive: Archive, detector: DetectorName, suffix: SuffixName, found: dict[str, float]) -> None:
    """Put the brightest pixel of 50 stars into `found`."""
    query = Query(detector, n_sat_pixels=0, limit=50)
    with trio.move_on_after(DEADLINE_S):  # what was read until then stands
        async with archive.stream(query, suffixes=[suffix]) as cutouts:
            async for cutout in cutouts:
                found[detector] = max(found.get(detector, 0.0), float(cutout.data.max()))


async def main(url: str | None = None) -> dict[str, float]:
    """Read both detectors through one archive: they share its connections."""
    found: dict[str, float] = {}
    async with Archive(url) as archive, trio.open_nursery() as nursery:
        nursery.start_soon(brightest, archive, "UVIS", "flt", found)
        nursery.start_soon(brightest, archive, "IR", "flt", found)
    return found


if __name__ == "__main__":
    for detector, peak in sorted(trio.run(main, sys.argv[1] if sys.argv[1:] else None).items()):
        sys.stdout.write(f"{detector}: {peak:.1f}\n")
