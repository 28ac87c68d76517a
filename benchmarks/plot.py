"""Draws how cost and memory grow with the number of cutouts, and what a long run holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def panels(path: Path, rows: int, columns: int, size: tuple[float, float], **shared: Any) -> Iterator[Any]:
    """
    Yield panels to draw in, and write them to a file.

    Parameters
    ----------
    path
        Where the figure goes; its ending decides the format.
    rows, columns
        How many panels.
    size
        Width and height in inches.
    **shared
        What else matplotlib's ``subplots`` takes.

    Yields
    ------
    array of Axes
    """
    import matplotlib as mpl

    mpl.use("agg")  # before pyplot looks for a screen
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", **shared)
    for panel in axes.flat:
        panel.grid(alpha=0.3)
    yield axes
    figure.savefig(path, dpi=150)
    plt.close(figure)


def growth(found: Mapping[str, Any], path: Path) -> None:
    """
    Draw cost per cutout and peak memory against the number of cutouts.

    Parameters
    ----------
    found
        What `benchmarks.scale.play` gave.
    path
        Where the figure goes; its ending decides the format.
    """
    quantities = (("cpu_s_per_1000", "CPU seconds per 1,000 cutouts"), ("peak_mb", "peak memory (MB)"))
    with panels(path, 1, 2, (9, 3.6)) as axes:
        for panel, (quantity, label) in zip(axes, quantities, strict=True):
            for client in dict.fromkeys(point["client"] for point in found["points"]):
                points = [point for point in found["points"] if point["client"] == client]
                panel.plot([p["n"] for p in points], [p[quantity] for p in points], "o-", label=client)
            panel.set(xscale="log", xlabel="cutouts", ylabel=label)
            panel.set_ylim(bottom=0)
        axes[0].legend(frameon=False)


def soak(found: Mapping[str, Any], path: Path) -> None:
    """
    Draw memory and open files over the time of a long run.

    Parameters
    ----------
    found
        What `benchmarks.soak.play` gave.
    path
        Where the figure goes; its ending decides the format.
    """
    quantities = (("rss_mb", "memory (MB)"), ("n_files", "open files"))
    at_s = [look["at_s"] for look in found["looks"]]
    with panels(path, 1, 2, (9, 3.2)) as axes:
        for panel, (quantity, label) in zip(axes, quantities, strict=True):
            panel.plot(at_s, [look[quantity] for look in found["looks"]])
            panel.set(xlabel="seconds", ylabel=label)
            panel.set_ylim(bottom=0)
