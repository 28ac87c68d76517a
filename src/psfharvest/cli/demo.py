"""``demo``: query, harvest, verification and contact sheet from the bundled simulator, in half a minute."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from psfharvest.cli import loop
from psfharvest.cli.conclusion import show_account
from psfharvest.cli.output import result, say
from psfharvest.cli.simulate import require_simulator
from psfharvest.core.errors import BadInput
from psfharvest.core.model import Report
from psfharvest.show.progress import Reporter

if TYPE_CHECKING:
    from psfharvest.core.catalog.query import Query

PANELS = 24


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("psfharvest-demo"),
    show_default=True,
    metavar="DIR",
    help="The harvest folder to make.",
)
@click.option("--count", "n", type=click.IntRange(min=1, max=20_000), default=200, show_default=True, metavar="N")
def demo(folder: Path, n: int) -> int:
    """
    Harvest from the bundled simulator, verify, and draw what came: a tour without the network.

    Running it again shows that nothing is fetched twice.
    """
    require_simulator()
    from psfharvest.core.catalog.query import Query  # noqa: PLC0415
    from psfharvest.simulator import Settings, Simulator  # noqa: PLC0415 - an extra

    query = Query("UVIS", filter=["F606W", "F814W"], n_sat_pixels=0, limit=n)
    with Simulator(Settings(sources=max(20_000, 10 * n))) as simulator:
        result(f"1. the simulated archive listens on {simulator.url}")
        with Reporter() as reporter:
            work = functools.partial(_harvest, simulator.url, query, folder, reporter)
            report = loop.run(work)
    result(f"2. harvested {query!r}")
    show_account(report, folder)
    result(f"3. asked {report.requests} requests; all further runs of the demo ask for nothing that is done")
    status = report.exit_status or _verify(folder)
    _draw(folder)
    result(f"5. the same from the shell:  psfharvest status {folder}")
    return status


async def _harvest(url: str, query: Query, folder: Path, reporter: Reporter) -> Report:
    from psfharvest.client import Archive  # noqa: PLC0415

    async with Archive(url) as archive:
        n = await archive.count(query)
        result(f"   it holds {n} sources that match")
        return await archive.harvest(query, folder, suffixes=["flt"], progress=reporter)


def _verify(folder: Path) -> int:
    from psfharvest.store.manifest.manifest import Manifest  # noqa: PLC0415
    from psfharvest.store.recover.audit import audit  # noqa: PLC0415

    with Manifest.read(folder) as manifest:
        findings = list(audit(folder, manifest))
    broken = [f for f in findings if f.problem]
    result(f"4. re-read {len(findings)} stored cutouts against the manifest: {len(broken)} broken")
    return 3 if broken else 0


def _draw(folder: Path) -> None:
    from psfharvest.show.plot import contact_sheet  # noqa: PLC0415
    from psfharvest.store.read.harvest import Harvest  # noqa: PLC0415

    out = folder / "contact-sheet.png"
    try:
        with Harvest(folder) as stars:
            cutouts = stars[:PANELS]
            contact_sheet(cutouts, out)
        result(f"   and drew {len(cutouts)} of them: {out}")
    except BadInput as error:
        say(f"no picture: {error}")
