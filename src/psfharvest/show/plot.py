"""
Pictures of cutouts: one with its colour bar, or a contact sheet; stretches by astropy's visualization.

Every image has its own range, from its 5th percentile to its brightest pixel; what is not a number is drawn in blue
grey, neither black nor the page's white. A small open cross marks the star's centre. matplotlib is an extra; its
global state is never touched.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from psfharvest.core import ranges
from psfharvest.core.errors import BadInput
from psfharvest.core.fits import datauri
from psfharvest.filesystem import extras
from psfharvest.filesystem.atomic import require_ending, written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy import float32
    from numpy.typing import NDArray

MAX_PANELS = 400
STRETCHES = ("log", "asinh", "linear")
ENDINGS = (".png", ".pdf", ".svg")
BLANK = (113, 128, 150)
MARK = "#ff9f1c"
DPI = 150
PANEL_INCHES = 1.5
TITLE_INCHES = 0.34
GAP_INCHES = 0.14
TITLE_CHARS = 24
TITLE_POINTS = 6.5


class Panel(NamedTuple):
    """
    One picture of a sheet.

    `image` has shape ``(ny, nx)``; `center` is the star's place ``(x, y)`` in it, 0-based, or None for no mark.
    """

    image: NDArray[float32]
    title: str = ""
    center: tuple[float, float] | None = None


def contact_sheet(
    what: Any,
    out: str | Path | None = None,
    *,
    titles: Sequence[str] | None = None,
    stretch: str = "log",
    max_panels: int = MAX_PANELS,
) -> Figure:
    """
    Draw cutouts side by side, or one large with a colour bar, and write one picture.

    Parameters
    ----------
    what
        A `Harvest`, or any iterable of cutouts; images, shape ``(ny, nx)`` each, or one array of them, shape
        ``(n, ny, nx)``; one cutout or image; `Panel` values. Negative, zero and NaN pixels are allowed.
    out
        The picture; its ending says the format (``.png``, ``.pdf``, ``.svg``). None writes nothing.
    titles
        One a panel; without them, cutouts have those that their dataURIs give.
    stretch
        ``log``, ``asinh`` or ``linear``.
    max_panels
        Only so many are drawn, from the first on.

    Returns
    -------
    matplotlib.figure.Figure
        What was drawn; notebooks show it where it is a cell's last value.

    Raises
    ------
    BadInput
        When matplotlib is not installed, there is nothing to draw, or the format is not known.
    SinkError
        When the picture cannot be written.
    """
    _require_matplotlib(stretch, out)
    panels = list(islice(_panels(what, titles), max_panels))
    if not panels:
        raise BadInput("no cutout to draw")
    figure = _single(panels[0], stretch) if len(panels) == 1 else _sheet(panels, stretch)
    if out is not None:
        _save(figure, Path(out))
    return figure


def short_title(file_name: str) -> str:
    """Return a title of two lines from an archive's file name: exposure and id, filter and product."""
    words = file_name.removesuffix(".fits").removesuffix("_cutout").split("_")
    if len(words) < 4:
        return _cut(file_name)
    return f"{_cut(' '.join(words[:2]))}\n{_cut(' '.join(words[2:]))}"


def _require_matplotlib(stretch: str, out: str | Path | None) -> None:
    if out is not None:
        require_ending(Path(out), ENDINGS)
    ranges.check_word("stretch", stretch, STRETCHES)
    try:
        import matplotlib.figure  # noqa: F401, PLC0415 - an extra, and heavy
    except ImportError:
        raise BadInput(f"a picture needs matplotlib: {extras.command('plot', ['matplotlib'])}") from None


def _panels(what: Any, titles: Sequence[str] | None) -> Iterator[Panel]:
    for n, thing in enumerate(_things(what)):
        panel = _panel(thing)
        title = panel.title if titles is None else titles[n] if n < len(titles) else ""
        yield panel._replace(title=_drawable(title))


def _drawable(title: str) -> str:
    """Return a title without what a font has no sign for, or no text has: names of files may hold it."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in title)


def _things(what: Any) -> Iterable[Any]:
    if isinstance(what, Panel) or hasattr(what, "raw") or getattr(what, "ndim", None) == 2:
        return [what]
    if getattr(what, "ndim", 3) != 3 or not isinstance(what, Iterable):
        raise BadInput(f"cannot draw {type(what).__name__}: cutouts, or images of two axes, are drawn")
    return what


def _panel(thing: Any) -> Panel:
    import numpy as np  # noqa: PLC0415 - heavy

    if isinstance(thing, Panel):
        return thing
    if hasattr(thing, "raw"):
        return Panel(_image(thing.data), short_title(datauri.file_name(thing.uri)), thing.center)
    image = _image(np.asarray(thing))
    return Panel(image, "", ((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2))


def _image(values: NDArray[Any]) -> NDArray[float32]:
    if values.ndim != 2 or not values.size:
        raise BadInput(f"an image has two axes, this has shape {values.shape}")
    return values.astype("float32")


def _cut(text: str) -> str:
    return text if len(text) <= TITLE_CHARS else f"{text[: TITLE_CHARS - 1]}…"


def _sheet(panels: Sequence[Panel], stretch: str) -> Figure:
    """
    Draw all panels into one pair of axes, whose unit is an inch.

    Hundreds of axes of their own would take a minute to lay out.
    """
    from psfharvest.show.figure import NotebookFigure  # noqa: PLC0415 - an extra, and heavy

    n_columns = min(len(panels), math.ceil(math.sqrt(len(panels) * 1.3)))
    n_rows = math.ceil(len(panels) / n_columns)
    above = TITLE_INCHES if any(panel.title for panel in panels) else 0.0
    wide, high = PANEL_INCHES + GAP_INCHES, PANEL_INCHES + above + GAP_INCHES
    width, height = n_columns * wide + GAP_INCHES, n_rows * high + GAP_INCHES
    figure = NotebookFigure(figsize=(width, height), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height), autoscale_on=False)
    axes.set_axis_off()
    for n, panel in enumerate(panels):
        row, column = divmod(n, n_columns)
        x = GAP_INCHES + column * wide
        y = height - GAP_INCHES - (row + 1) * high + GAP_INCHES
        ny, nx = panel.image.shape
        pixel = PANEL_INCHES / max(ny, nx)
        left, low = x + (PANEL_INCHES - nx * pixel) / 2, y + (PANEL_INCHES - ny * pixel) / 2
        _draw(axes, panel.image, stretch, extent=(left, left + nx * pixel, low, low + ny * pixel))
        if panel.center is not None:
            _mark(axes, left + (panel.center[0] + 0.5) * pixel, low + (panel.center[1] + 0.5) * pixel, 9)
        axes.text(
            x + PANEL_INCHES / 2, y + PANEL_INCHES + 0.04, panel.title, ha="center", va="bottom", size=TITLE_POINTS,
            linespacing=1.15, parse_math=False,
        )  # fmt: skip
    axes.set(xlim=(0, width), ylim=(0, height), aspect="auto")
    return figure


def _single(panel: Panel, stretch: str) -> Figure:
    from matplotlib.cm import ScalarMappable  # noqa: PLC0415 - an extra, and heavy

    from psfharvest.show.figure import NotebookFigure  # noqa: PLC0415 - an extra, and heavy

    ny, nx = panel.image.shape
    figure = NotebookFigure(figsize=(5.4, max(2.2, min(9.0, 4.1 * ny / nx + 0.9))), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    norm = _draw(axes, panel.image, stretch, extent=(-0.5, nx - 0.5, -0.5, ny - 0.5))
    if panel.center is not None:
        _mark(axes, *panel.center, 17)
    axes.set_title(panel.title.replace("\n", "  "), size=9, parse_math=False)
    axes.set_xlabel("x (pixel)", size=8)
    axes.set_ylabel("y (pixel)", size=8)
    axes.tick_params(labelsize=7)
    bar = figure.colorbar(ScalarMappable(norm, "gray"), ax=axes, shrink=0.9, pad=0.02, extend="min")
    bar.set_label(f"pixel value, {stretch} stretch", size=8)
    bar.ax.tick_params(labelsize=7)
    bar.set_ticks([float(t) for t in norm.inverse([0.0, 0.25, 0.5, 0.75, 1.0])])
    bar.ax.yaxis.set_major_formatter(lambda x, _: f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}")
    bar.minorticks_off()
    return figure


def _draw(axes: Axes, image: NDArray[float32], stretch: str, *, extent: tuple[float, float, float, float]) -> Any:
    """Draw an image and return the norm it was stretched by."""
    import numpy as np  # noqa: PLC0415 - heavy
    from astropy.visualization import AsinhStretch, ImageNormalize, LinearStretch, LogStretch  # noqa: PLC0415

    kind = {"log": LogStretch(1000), "asinh": AsinhStretch(0.02), "linear": LinearStretch()}[stretch]
    is_finite = np.isfinite(image)
    finite = image[is_finite]
    low, high = (float(np.percentile(finite, 5)), float(finite.max())) if finite.size else (0.0, 1.0)
    if not low < high:
        low, high = low - 0.5, low + 0.5
    norm = ImageNormalize(vmin=low, vmax=high, stretch=kind, clip=True)
    share = np.asarray(norm(np.where(is_finite, image, low)))
    # colours are made here: drawn as values, what is not a number would come out as the page
    colours = np.repeat(np.rint(255 * share).astype(np.uint8)[..., None], 3, axis=2)
    colours[~is_finite] = BLANK
    axes.imshow(colours, origin="lower", extent=extent, interpolation="none")
    return norm


def _mark(axes: Axes, x: float, y: float, size: float) -> None:
    """Draw a cross that is open in the middle, so that the pixel it marks can be seen."""
    from matplotlib.path import Path as Curve  # noqa: PLC0415 - an extra, and heavy

    cross = Curve(
        [(-1, 0), (-0.5, 0), (0.5, 0), (1, 0), (0, -1), (0, -0.5), (0, 0.5), (0, 1)],
        [Curve.MOVETO, Curve.LINETO] * 4,
    )
    axes.plot([x], [y], marker=cross, markersize=2 * size, color=MARK, markeredgewidth=0.6, linestyle="none")


def _save(figure: Figure, out: Path) -> None:
    """Write the picture whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=out.suffix.lower().lstrip("."), dpi=DPI)
    with written_whole(out) as partial:
        partial.write_bytes(buffer.getvalue())
