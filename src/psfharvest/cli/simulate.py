"""``simulate``: the archive on loopback, until interrupted."""

from __future__ import annotations

import click

from psfharvest.cli.options import Number
from psfharvest.cli.output import announce
from psfharvest.core import ranges
from psfharvest.core.errors import BadInput, LocalError
from psfharvest.filesystem import extras


class _Simulate(click.Command):
    """A command whose help ends with the oddities, as the simulator's own table has them."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table."""
        super().format_epilog(ctx, formatter)
        from psfharvest.simulator.oddities.table import ODDITIES  # noqa: PLC0415 - heavy

        with formatter.section("Oddities (of one group, one at a time)"):
            formatter.write_dl([(name, f"{odd.text} ({odd.group})") for name, odd in ODDITIES.items()])


@click.command(cls=_Simulate)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="H")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, metavar="P", help="[default: a free one]")
@click.option("--sources", type=click.IntRange(min=0), default=20_000, show_default=True, metavar="N")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S")
@click.option(
    "--latency", "latency_s", type=Number(ranges.LATENCY_S), default=0.0, metavar="S", help="Delay of every answer."
)
@click.option("--fault", "faults", multiple=True, metavar="SPEC", help="A fault to show; repeatable.")
@click.option("--oddity", "oddities", multiple=True, metavar="NAME", help="A way to differ; repeatable.")
@click.option("--static", is_flag=True, help="One body for every cutout of a size, as fast as can be.")
def simulate(
    host: str,
    port: int,
    sources: int,
    seed: int,
    latency_s: float,
    faults: tuple[str, ...],
    oddities: tuple[str, ...],
    static: bool,
) -> None:
    """
    Serve the simulated archive; the first line printed is its base URL.

    \b
    psfharvest simulate --port 8000 &
    psfharvest harvest stars UVIS --limit 100 --suffix flt --archive http://127.0.0.1:8000

    \b
    A fault is KIND, KIND:VALUE or KIND:key=value,...; KIND is one of
      status html text empty truncate wrong_length reset stall slow wrong_shape wrong_source endless gzip_bomb
      redirect close garbage outage mashup_error executing_forever short_answer
      bundle_drop bundle_corrupt bundle_cut bundle_foreign bundle_double bundle_evil
    and these say which requests: service nth every first from until rate times match; for example
      --fault status:503,rate=0.1,times=1     one cutout in ten fails once
      --fault truncate:every=20               every twentieth body is cut
      --fault html:service=file,first=50      the first 50 cutouts are web pages

    An oddity is a way in which an archive may lastingly differ from what psfharvest expects, which `doctor` shows;
    their names are below.
    """
    require_simulator()
    from psfharvest.simulator import Fault, Settings, serve  # noqa: PLC0415 - an extra

    try:
        settings = Settings(
            sources=sources, seed=seed, latency_s=latency_s, static=static, oddities=tuple(dict.fromkeys(oddities))
        )
        wrong = [Fault.parse(text) for text in faults]
    except ValueError as error:
        raise BadInput(str(error)) from error
    try:
        serve(settings, wrong, host, port, announce)
    except OSError as error:
        raise LocalError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


def require_simulator() -> None:
    """Raise `BadInput` when the simulator's own requirements are not installed."""
    extras.require("the simulator", "simulator", "uvicorn", "httptools")
