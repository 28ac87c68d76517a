"""A figure that a notebook shows by itself, whatever backend is set: it draws its own PNG."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """matplotlib's figure, which notebooks show where it is a cell's last value."""

    def _repr_png_(self) -> bytes:
        """Return the figure as PNG, as IPython asks for it."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=self.dpi)
        return buffer.getvalue()
