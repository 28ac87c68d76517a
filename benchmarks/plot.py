"""Draws how cost and memory grow with the number of cutouts, and what a long run holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


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
    import matplotlib as mpl

    mpl.use("agg")  # before pyplot looks for a screen
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    quantities = (("cpu_s_per_1000", "CPU seconds per 1,000 cutouts"), ("peak_mb", "peak memory (MB)"))
    for panel, (quantity, label) in zip(panels, quantities, strict=True):
        for client in dict.fromkeys(point["client"] for point in found["points"]):
            points = [point for point in found["points"] if point["client"] == client]
            panel.plot([p["n"] for p in points], [p[quantity] for p in points], "o-", label=client)
        panel.set(xscale="log", xlabel="cutouts", ylabel=label)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


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
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    at_s = [look["at_s"] for look in found["looks"]]
    for panel, (quantity, label) in zip(
        panels, (("rss_mb", "memory (MB)"), ("n_files", "open files")), strict=True
    ):
        panel.plot(at_s, [look[quantity] for look in found["looks"]])
        panel.set(xlabel="seconds", ylabel=label)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)
