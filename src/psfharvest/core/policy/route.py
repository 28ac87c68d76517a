"""
Single files or bundles? Decided by the number of cutouts and by what both were measured to give.

The measure is cutouts a second and connection, since connections are what an archive grants sparingly. Singles are
tried first, for they are needed to compare; where one is answered at once, bundles have nothing to win.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_CUTOUTS = 200
"""Fewer waiting ones are not worth a bundle."""
MIN_SINGLES = 24
"""Single answers before the first judgement."""
AT_ONCE_S = 0.05
"""A single that takes no longer leaves nothing to win."""
GAIN = 1.2
"""A bundle must be better by this factor."""
MIN_SIZE, FIRST_SIZE, MAX_SIZE = 50, 100, 2000
BUNDLE_TARGET_S = 25.0
"""What a bundle should take: a kill costs all of it, since nothing is claimed before its end is verified."""
TRY_AGAIN_AFTER = 5000
"""Singles between two trials of a bundle that lost."""
BAD_BUNDLES = 3
"""Bundles in a row that gave nothing: then none for a while."""


@dataclass(slots=True)
class Route:
    """
    The choice, and what it rests on.

    Parameters
    ----------
    via
        ``auto``, ``file`` or ``bundle``: an order, or leave to choose.
    """

    via: str = "auto"
    is_offered: bool = True
    """False once the archive has shown that it offers no bundles."""
    single_s: float = 0.0
    """Mean time of a single, over the recent ones."""
    bundled_per_s: float = 0.0
    """Cutouts a second that a bundle's connection gives, over the recent ones."""
    size: int = FIRST_SIZE
    """Cutouts that the next bundle should hold."""
    _singles: int = 0
    _bundles: int = 0
    _bad: int = 0
    _tried_at: int = 0

    def wants_bundles(self, n_waiting: int) -> bool:
        """Return True when the next cutouts should travel in a bundle."""
        if not self.is_offered or self.via == "file":
            return False
        if self.via == "bundle":
            return True
        if n_waiting < MIN_CUTOUTS or self._singles < MIN_SINGLES or self.single_s <= AT_ONCE_S:
            return False
        if self._bad >= BAD_BUNDLES or (self._bundles and not self._is_better()):
            return self._singles - self._tried_at >= TRY_AGAIN_AFTER
        return True

    def single(self, n: int, mean_s: float) -> None:
        """Take account of `n` single answers."""
        if n:
            self._singles += n
            weight = min(1.0, max(n / 200, n / self._singles))
            self.single_s += (mean_s - self.single_s) * weight

    def bundle(self, n_cutouts: int, elapsed_s: float) -> None:
        """Take account of a bundle that gave `n_cutouts` in `elapsed_s`."""
        self._bundles += 1
        self._tried_at = self._singles
        self._bad = 0 if n_cutouts else self._bad + 1
        if not n_cutouts:
            self.size = max(MIN_SIZE, self.size // 2)
        rate = n_cutouts / max(elapsed_s, 1e-3)
        self.bundled_per_s += (rate - self.bundled_per_s) * (1.0 if self._bundles == 1 else 0.3)
        if n_cutouts:
            wanted = self.bundled_per_s * BUNDLE_TARGET_S
            self.size = int(min(MAX_SIZE, 2 * self.size, max(MIN_SIZE, wanted)))

    def too_large(self) -> None:
        """Take account of a bundle that the archive found too large."""
        self.size = max(MIN_SIZE, self.size // 2)
        self._bad += 1

    def why(self) -> str:
        """Return the reason of the present choice, for people."""
        if self.via != "auto":
            return f"--via {self.via}" + ("" if self.is_offered else ", but the archive offers no bundles")
        if not self.is_offered:
            return "the archive offers no bundles"
        single = (
            f"a connection gives {1 / self.single_s:.1f} single files/s" if self.single_s else "too few cutouts"
        )
        if self._bundles:
            return f"{single}, {self.bundled_per_s:.1f}/s by bundles"
        return single

    def _is_better(self) -> bool:
        return self.bundled_per_s * self.single_s > GAIN
