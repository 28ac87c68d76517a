"""Pictures of cutouts: contact sheets in a log stretch, by astropy's own visualization (needs matplotlib)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from psfharvest.core.errors import BadInput

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

MAX_PANELS = 400
PANEL_INCHES = 1.6


def contact_sheet(images: Sequence[NDArray[float32]], titles: Sequence[str], out: Path) -> None:
    """
    Draw images side by side, each in its own log stretch, and write one picture.

    Parameters
    ----------
    images
        Pixels, shape ``(ny, nx)`` each; negative, zero and NaN pixels are allowed.
    titles
        One a panel.
    out
        The picture; its ending says the format.

    Raises
    ------
    BadInput
        When matplotlib is not installed, or there is nothing to draw.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and heavy
    except ImportError:
        raise BadInput("pictures need matplotlib: pip install 'psfharvest[plot]'") from None
    if not images:
        raise BadInput("no cutout to draw")
    images, titles = images[:MAX_PANELS], titles[:MAX_PANELS]
    n_columns = math.ceil(math.sqrt(len(images) * 1.5))
    n_rows = math.ceil(len(images) / n_columns)
    figure = Figure(figsize=(n_columns * PANEL_INCHES, n_rows * (PANEL_INCHES + 0.35) + 0.1), layout="tight")
    panels = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for panel in panels:
        panel.set_axis_off()
    for panel, image, title in zip(panels, images, titles, strict=False):
        _draw(panel, image)
        panel.set_title(title, fontsize=6)
    figure.savefig(out, dpi=150)


def short_title(file_name: str) -> str:
    """Return a title of two lines from an archive's file name: exposure and id, filter and product."""
    words = file_name.removesuffix(".fits").removesuffix("_cutout").split("_")
    return f"{' '.join(words[:2])}\n{' '.join(words[2:])}"


def _draw(panel: object, image: NDArray[float32]) -> None:
    import numpy as np  # noqa: PLC0415
    from astropy.visualization import ImageNormalize, LogStretch  # noqa: PLC0415

    finite = image[np.isfinite(image)]
    low, high = (np.percentile(finite, 5), finite.max()) if finite.size else (0.0, 1.0)
    with warnings.catch_warnings():
        # astropy warns where a stretch meets a pixel below its range, which is drawn black on purpose
        warnings.simplefilter("ignore", RuntimeWarning)
        norm = ImageNormalize(vmin=low, vmax=max(high, low + 1e-6), stretch=LogStretch(1000), clip=True)
        panel.imshow(image, norm=norm, cmap="gray", origin="lower")  # type: ignore[attr-defined]
