"""The command line: ``python -m benchmarks``."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from benchmarks import machine, place, plot, query, report, scale, soak, table

ROUNDS = 3
"""Fewer give no median."""
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
Command = Callable[..., Any]
scratch_option = click.option(
    "--scratch",
    type=FOLDER,
    default=Path(tempfile.gettempdir()),
    show_default=True,
    help="Folder on a disk with room.",
)


def shared(command: Command) -> Command:
    """Add the options that all commands share."""
    options = (
        click.option("--quick", is_flag=True, help="Small numbers: a look, not a measurement."),
        click.option(
            "--output",
            type=click.Path(path_type=Path),
            default=Path("benchmarks/results"),
            show_default=True,
            help="Folder for NAME.json and NAME.md.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run the benchmarks."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers, clients and images are cleaned up
    if not sys.platform.startswith("linux"):
        raise click.ClickException("the benchmarks pin cores and read /proc: they run on Linux only")


@main.command("rows")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--rounds", type=click.IntRange(min=1), default=ROUNDS, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=0.1), help="What the large run of a client takes, about.")
@click.option("--python", default=sys.executable, help="Interpreter that has the peers written in Python.")
@click.option(
    "--image",
    type=FOLDER,
    default=Path(tempfile.gettempdir()),
    show_default=True,
    help="Where the image of the fresh ext4 lies: on a disk that sets the pace, or in memory (/dev/shm).",
)
@shared
def rows(
    names: tuple[str, ...],
    rounds: int,
    seconds: float | None,
    python: str,
    image: Path,
    quick: bool,
    output: Path,
) -> None:
    """
    Run the rows of the table: this project and its peers, in turns, on one server.

    NAMES choose rows; without any, all are run (about 20 minutes; --quick, about 3).

    \b
    python -m benchmarks rows
    python -m benchmarks rows loopback-ext4 tls-ext4 --rounds 5
    python -m benchmarks rows --quick --python ~/peers/bin/python
    """
    known = [*(scenario.name for scenario in table.SCENARIOS), "startup", "query", "astroquery"]
    if unknown := set(names) - set(known):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: known are {', '.join(known)}")
    chosen = names or tuple(known)
    usual_s, waves = (0.4, 8) if quick else (4.0, 40)
    effort = table.Effort(seconds or usual_s, waves, rounds, image)
    found = _head("quick" if quick else "full", rounds)
    outcomes = [table.play(one, effort, python, _tell) for one in table.SCENARIOS if one.name in chosen]
    found["scenarios"] = [report.outcome(one) for one in outcomes]
    if "startup" in chosen:
        found["startup"] = query.startup()
    if "query" in chosen:
        found["query"] = query.play(20_000 if quick else 1_000_000, _tell)
    if "astroquery" in chosen:
        found["astroquery"] = query.beside_astroquery(python, _tell)
    found["targets"] = report.targets(outcomes)
    _write(found, output, "table")


@main.command("scale")
@click.option("--largest", type=click.IntRange(min=100), default=1_000_000, show_default=True)
@click.option("--sink", type=click.Choice(["shards", "files"]), default="shards", show_default=True)
@scratch_option
@shared
def grow(largest: int, sink: str, scratch: Path, quick: bool, output: Path) -> None:
    """
    Harvest growing numbers of cutouts, up to 1,000,000 (30 GB of disk, 5 to 10 minutes), and draw what they cost.

    \b
    python -m benchmarks scale
    python -m benchmarks scale --largest 100000 --scratch /data
    """
    found = _head("quick" if quick else "full", 1)
    found["scale"] = scale.play(min(largest, 10_000) if quick else largest, sink, scratch, _tell)
    _write(found, output, "scale")
    plot.growth(found["scale"], output / "scale.png")


@main.command("soak")
@click.option("--cutouts", type=click.IntRange(min=1000), default=1_000_000, show_default=True)
@click.option("--sink", type=click.Choice(["shards", "files", "parquet"]), default="shards", show_default=True)
@scratch_option
@shared
def steep(cutouts: int, sink: str, scratch: Path, quick: bool, output: Path) -> None:
    """
    Harvest 1,000,000 cutouts while one answer in a hundred is bad (20 GB of disk, about 5 minutes); needs nginx.

    \b
    python -m benchmarks soak
    python -m benchmarks soak --cutouts 100000 --sink files
    """
    found = _head("quick" if quick else "full", 1)
    found["soak"] = soak.play(min(cutouts, 10_000) if quick else cutouts, sink, scratch, _tell)
    _write(found, output, "soak")
    plot.soak(found["soak"], output / "soak.png")


def _head(effort: str, rounds: int) -> dict[str, Any]:
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return {"when": when, "machine": machine.describe(), "effort": effort, "rounds": rounds}


def _write(found: dict[str, Any], folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = report.text(found)
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    (folder / f"{name}.md").write_text(text)
    print(text)
    _tell(f"written: {folder / name}.json and .md")


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main(prog_name="python -m benchmarks")
    except place.NoRoom as error:
        sys.exit(f"benchmarks: {error}")
