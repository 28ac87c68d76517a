"""
How the databases are filled: synthetic sources drawn from a seed, and the real rows beside them.

Rules: what is drawn is a function of the seed and the number of sources alone; nothing synthetic stands in
the box of the notebook's query, and no synthetic source has a real one's id.
"""

import csv
from dataclasses import fields
from functools import cache
from importlib import resources
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from psfharvest.simulator.catalog.columns import DETECTORS
from psfharvest.simulator.catalog.table import SCALE, SCALED, Table
from psfharvest.simulator.settings import Settings
from psfharvest.simulator.sky import optics
from psfharvest.simulator.sky.exposures import Exposures, rootnames, synthetic_exposures
from psfharvest.simulator.sky.geometry import CHIP_ROWS, SIDES

SHARES: Final = {"UVIS": 0.4, "IR": 0.3, "WFPC2": 0.3}
SOURCES_PER_EXPOSURE: Final = 20
FEWEST_EXPOSURES: Final = 16
N_BRIGHT: Final = 31
"""Synthetic sources that the second published notebook's query gives, beside 19 recorded ones."""
SATURATED_SHARE: Final = 0.1
_IDS: Final = {
    "UVIS": (8_000_000, 33_000_000),
    "IR": (1_000_000, 26_500_000),
    "WFPC2": (2_000_000, 27_000_000),
}
_LOG_PEAK: Final = {"UVIS": (3.3, 4.75, 5.0, 6.2), "IR": (0.5, 2.8, 3.6, 4.5), "WFPC2": (2.6, 4.3, 4.8, 5.8)}
"""log10 of a star's central pixel: lowest and highest of the unsaturated, then of the saturated sources."""


@cache
def _real_rows() -> list[dict[str, str]]:
    text = resources.files("psfharvest.simulator.catalog").joinpath("real_rows.csv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


def build(detector: str, settings: Settings) -> Table:
    """Fill one database."""
    n = round(settings.sources * SHARES[detector])
    if detector == "WFPC2":  # the rest, so that the three add up
        n = settings.sources - sum(round(settings.sources * SHARES[other]) for other in ("UVIS", "IR"))
    rng = np.random.default_rng([settings.seed, DETECTORS.index(detector)])
    n_exposures = min(n, max(FEWEST_EXPOSURES, n // SOURCES_PER_EXPOSURE))
    exposures = synthetic_exposures(detector, n_exposures, rng, settings.seed)
    parts = _synthetic(detector, n, exposures, rng)
    parts["is_real"] = np.zeros(n, dtype=bool)
    if detector == "UVIS":
        exposures, parts = _with_bright(exposures, parts, settings.seed)
        real = _real_rows()
        exposures, parts = _with_real(exposures, parts, real, rng=np.random.default_rng(1))
    if "id_twice" in settings.oddities:
        parts["ids"] = _with_doubled_ids(parts["ids"], parts["is_real"])
    order = np.argsort(parts["ids"], kind="stable")
    if "row_twice" in settings.oddities:
        order = np.repeat(order, np.where(~parts["is_real"][order] & (np.arange(len(order)) % 20 == 0), 2, 1))
    border = {"UVIS": 0, "IR": settings.raw_border_ir, "WFPC2": settings.raw_border_wfpc2}[detector]
    return Table(
        detector=detector,
        exposures=exposures,
        raw_y_chip1=settings.raw_rows_below_chip1,
        raw_border=border,
        **{name: values[order] for name, values in parts.items()},
    )


def _with_bright(
    exposures: Exposures, parts: dict[str, NDArray[Any]], seed: int
) -> tuple[Exposures, dict[str, NDArray[Any]]]:
    """
    Make some synthetic sources like the recorded answers to the second published notebook's query.

    With the 19 recorded ones they are the 50 that it gives. No other is as bright and unsaturated.
    """
    free = np.flatnonzero(parts["n_sat_pixels"] == 0)
    if len(free) < 2 * N_BRIGHT:
        return exposures, parts
    hit = free[:: len(free) // N_BRIGHT][:N_BRIGHT]
    rng = np.random.default_rng([seed, 50])
    drawn = synthetic_exposures("UVIS", N_BRIGHT, rng, seed)
    added = {field.name: getattr(drawn, field.name) for field in fields(Exposures)}
    added |= {
        "rootname": rootnames("UVIS", seed, len(exposures) + N_BRIGHT)[-N_BRIGHT:],
        "filter": np.full(N_BRIGHT, "F606W"),
        "filter_2": np.full(N_BRIGHT, ""),
        "aperture": np.full(N_BRIGHT, "UVIS-CENTER"),
        "exptime": np.array([40.0, 348.0, 400.0, 725.0])[np.arange(N_BRIGHT) % 4],
        "subarray": np.zeros(N_BRIGHT, dtype=np.int8),
        "chip": np.zeros(N_BRIGHT, dtype=np.int8),
        "mtflag": np.full(N_BRIGHT, "0"),
        "focus": _known_focus(drawn.focus),
    }
    both = {name: np.concatenate([getattr(exposures, name), values]) for name, values in added.items()}
    changed = {name: values.copy() for name, values in parts.items()}
    sky = _within(rng, 3_250, 4_950)
    pixc = _within(rng, 5_920_000, 6_310_000)
    changed["exposure"][hit] = len(exposures) + np.arange(N_BRIGHT)
    changed["chip"][hit] = 2
    changed["x"][hit] = _within(rng, 14_500_000, 21_600_000)
    changed["y"][hit] = _within(rng, 6_400_000, 13_400_000)
    changed["sky"][hit], changed["pixc"][hit] = sky, pixc
    changed["flux"][hit] = (pixc - sky) / optics.profile("F606W", "UVIS").peak
    changed["qfit"][hit] = _within(rng, 18, 50)
    changed["iso_index"][hit] = 24
    return Exposures(**both), changed


def _within(rng: np.random.Generator, low: int, high: int) -> NDArray[np.int32]:
    return rng.integers(low, high, N_BRIGHT).astype(np.int32)


def _known_focus(focus: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fill in a focus where there is none: a query with a criterion on it gave these sources."""
    return np.where(np.isnan(focus), 0.5, focus)


def _with_doubled_ids(ids: NDArray[np.int32], is_real: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Give one synthetic source in twenty the id of the one before it."""
    doubled = ids.copy()
    hit = np.flatnonzero(~is_real)[1::20]
    doubled[hit] = ids[hit - 1]
    return doubled


def _spread_ids(detector: str, n: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw one id from each of ``n`` equal slices: unique and sorted without a search."""
    low, high = _IDS[detector]
    width = (high - low) // max(n, 1)
    if width < 2:
        raise ValueError(f"{n} sources do not fit into the ids {low}..{high} of {detector}")
    offset = (rng.random(n) * width).astype(np.int64)
    taken = [int(row["id"]) for row in _real_rows()]
    ids = low + np.arange(n, dtype=np.int64) * width + offset
    offset = np.where(np.isin(ids, taken), (offset + 1) % width, offset)
    return (low + np.arange(n, dtype=np.int64) * width + offset).astype(np.int32)


def _synthetic(detector: str, n: int, exposures: Exposures, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    exposure = (rng.random(n) * len(exposures)).astype(np.int32)
    x, y, chip = places(detector, n, exposures.chip[exposure], rng)
    is_saturated = rng.permutation(n) < round(SATURATED_SHARE * n)
    low, high, low_saturated, high_saturated = _LOG_PEAK[detector]
    draw = rng.random(n)
    log_peak = np.where(
        is_saturated, low_saturated + (high_saturated - low_saturated) * draw, low + (high - low) * draw
    )
    central = 10**log_peak
    sky = np.round((1 + 60 * rng.random(n)) * 100 * (0.02 if detector == "IR" else 1)).astype(np.int32)
    filters, code = np.unique(exposures.filter, return_inverse=True)
    peaks = np.array([optics.profile(str(name), detector).peak for name in filters])
    peak = peaks[code][exposure]
    return {
        "ids": _spread_ids(detector, n, rng),
        "exposure": exposure,
        "chip": chip,
        "x": x,
        "y": y,
        "flux": np.round(central / peak * 100).astype(np.int32),
        "pixc": np.round(central * 100).astype(np.int32) + sky,
        "sky": sky,
        "qfit": np.where(is_saturated, 0, 5 + (rng.random(n) * 250).astype(np.int32)).astype(np.int32),
        "iso_index": (20 * 204 ** rng.random(n)).astype(np.int32),
        "n_sat_pixels": np.where(is_saturated, 1 + (rng.random(n) ** 3 * 300), 0).astype(np.int32),
    }


def places(
    detector: str, n: int, only_chip: NDArray[np.int8], rng: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int8]]:
    """
    Draw where sources stand.

    Parameters
    ----------
    detector
        ``UVIS``, ``IR`` or ``WFPC2``.
    n
        How many.
    only_chip
        Shape ``(n,)``: the one chip of a subarray, 0 for a full frame.
    rng
        Where chance comes from.

    Returns
    -------
    tuple of three ndarrays of shape (n,)
        1-based centres in x and y, in units of 1e-4 px, and chips.
    """
    unit = SCALE["x"]
    width, height = SIDES[detector]
    x = unit + (rng.random(n) * (width - 1) * unit).astype(np.int32)
    y = unit + (rng.random(n) * (height - 1) * unit).astype(np.int32)
    draw = rng.random(n)
    if detector == "UVIS":
        chip = np.where(only_chip > 0, only_chip, np.where(draw < 0.5, 1, 2))
        y += np.where(chip == 1, CHIP_ROWS * unit, 0).astype(np.int32)
        in_box = (x > 99 * unit) & (x < 103 * unit) & (y > 99 * unit) & (y < 103 * unit)
        x[in_box] += 10 * unit  # that box belongs to the six sources of the notebook
    elif detector == "IR":
        chip = np.ones(n)
    else:
        chip = np.where(only_chip > 0, only_chip, 1 + (draw * 4).astype(np.int8))
    return x, y, chip.astype(np.int8)


def _with_real(
    exposures: Exposures, parts: dict[str, NDArray[Any]], rows: list[dict[str, str]], rng: np.random.Generator
) -> tuple[Exposures, dict[str, NDArray[Any]]]:
    """Append the real rows; what the record does not tell of them is drawn from a seed of its own."""
    n = len(rows)
    drawn = synthetic_exposures("UVIS", n, rng, seed=0)
    given = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    real = {field.name: getattr(drawn, field.name) for field in fields(Exposures)}
    real |= {"rootname": given["rootname"], "filter": given["filter"], "exptime": given["exptime"].astype(float)}
    real |= {
        "subarray": given["subarray"].astype(np.int8),
        "chip": np.zeros(n, dtype=np.int8),
        "aperture": np.full(n, "UVIS-CENTER"),
        "mtflag": np.full(n, "0"),
        "focus": _known_focus(drawn.focus),
    }
    scaled = {
        name: np.round(given[name].astype(float) * SCALE[stored]).astype(np.int32)
        for name, stored in SCALED.items()
        if name in given
    }
    peak = np.array([optics.profile(str(name), "UVIS").peak for name in given["filter"]])
    added = {
        "ids": given["id"].astype(np.int32),
        "exposure": len(exposures) + np.arange(n, dtype=np.int32),
        "chip": given["chip"].astype(np.int8),
        "x": scaled["psf_x_center"],
        "y": scaled["psf_y_center"],
        "flux": ((scaled["pixc"] - scaled["sky"]) / peak).astype(np.int32),
        "pixc": scaled["pixc"],
        "sky": scaled["sky"],
        "qfit": scaled["qfit"],
        "iso_index": given["iso_index"].astype(np.int32),
        "n_sat_pixels": np.zeros(n, dtype=np.int32),
        "is_real": np.ones(n, dtype=bool),
    }
    both = {name: np.concatenate([getattr(exposures, name), values]) for name, values in real.items()}
    return Exposures(**both), {name: np.concatenate([parts[name], added[name]]) for name in parts}
