"""
Choice between single files and bundles, by the number of cutouts and the measured throughput of both.

The measure is cutouts per second and connection, since an archive limits the connections. Singles are
measured first, on half of the connections; where one is answered at once, bundles have nothing to win. Where none
is, bundles of several sizes are tried on the other half, and whichever way shows that it is faster gets all
connections: a bundle shows it while it still streams. A trial costs a fixed part of the work at most: it is
abandoned after a time in which a hundredth of the work could have come singly. A trial that was slower is repeated
with a larger bundle, since bundles may have a fixed cost, and after so many more singles that the trials together
stay a small part of the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

MIN_CUTOUTS = 200
"""Fewer waiting ones are not worth a trial."""
MIN_SINGLES = 3
"""Single answers before they count as slow."""
AT_ONCE_S = 0.05
"""Where a single file takes no longer, bundles are not tried: they cannot be faster."""
FIRST_ANSWER_S = 0.1
"""Where no single file has been answered in this time, bundles are tried before one is."""
GAIN = 1.2
"""Bundles are chosen when their throughput is higher by this factor."""
MIN_PROGRESS = 5
"""Cutouts of a bundle on trial that must have arrived before its pace counts."""
MIN_SIZE, FIRST_SIZE, MAX_SIZE = 50, 100, 2000
BUNDLE_TARGET_S = 25.0
"""How long a bundle should take: a kill loses all of it, since it is claimed only once its end is verified."""
TRIAL_SHARE = 100
"""The smallest bundle of the first trial holds this part of what waits."""
TRIAL_MIN_SIZE = 10
FIRST_TRIALS = (1, 3, 10)
"""
Sizes of the bundles of the first trial, in units of the smallest one.

The smallest one is the first to show what an archive gives that packs a bundle before it sends it; of larger ones
less is lost to the time that each bundle takes.
"""
TRIAL_GROWTH = 4
"""Factor between the sizes of a trial that was slower than single files, and the next one."""
TRY_AGAIN_AFTER = 80
"""Single files before the next trial, for each cutout in its bundle, where the last one was slower."""
BAD_BUNDLES = 3
"""After so many bundles in a row without a cutout, none is sent for a while."""
NONE_FOR = 5000
"""Single files before bundles are tried again after that."""


class Trial(NamedTuple):
    """A bundle on trial."""

    n: int
    """Cutouts that it holds."""
    n_limit: int
    """It may take as long as so many cutouts take singly."""


@dataclass(slots=True)
class Route:
    """
    The choice between single files and bundles, and the measurements that it rests on.

    Parameters
    ----------
    via
        ``file`` or ``bundle`` where the user fixed it, ``auto`` to choose by measurement.
    """

    via: str = "auto"
    is_offered: bool = True
    """False once the archive has shown that it offers no bundles."""
    single_s: float = 0.0
    """Mean time of a single, over the recent ones; before the first answer, how long it has been waited for."""
    bundled_per_s: float = 0.0
    """Cutouts a second that a bundle's connection gives, over the recent ones."""
    size: int = FIRST_SIZE
    """Cutouts that the next bundle should hold."""
    _is_answered: bool = False
    """Whether a single was answered, well or not."""
    _singles: int = 0
    _bundles: int = 0
    _bad: int = 0
    _n_lost: int = 0
    """Trials that were slower than single files."""
    _trial_base: int = 0
    """The size of the first trial's bundles."""
    _try_at: int = 0
    """Number of singles before which no bundle is tried."""

    def wants_bundles(self, n_waiting: int) -> bool:
        """Return True when the next cutouts should travel in a bundle."""
        if not self.is_offered or self.via == "file":
            return False
        if self.via == "bundle":
            return True
        return n_waiting >= TRIAL_MIN_SIZE and self._is_better()

    def is_measuring(self, n_waiting: int) -> bool:
        """Return True while no single has been answered, so that half of the connections should wait for one."""
        return not self._is_answered and self._may_try(n_waiting)

    def trials(self, n_waiting: int) -> list[Trial]:
        """Return which bundles should be tried beside the singles, the smallest first."""
        if not self._may_try(n_waiting) or self._singles < self._try_at:
            return []
        if self._is_answered and (self._singles < MIN_SINGLES or self.single_s <= AT_ONCE_S):
            return []
        if not self._is_answered and self.single_s < FIRST_ANSWER_S:
            return []
        if self._n_lost:
            return [Trial(self._trial_size(), self._trial_size())]
        self._trial_base = min(FIRST_SIZE, max(TRIAL_MIN_SIZE, n_waiting // TRIAL_SHARE))
        largest = max(self._trial_base, min(FIRST_SIZE, 10 * n_waiting // TRIAL_SHARE))
        return [Trial(min(largest, self._trial_base * factor), self._trial_base) for factor in FIRST_TRIALS]

    def trial_limit_s(self, trial: Trial) -> float:
        """Return for how long a bundle on trial may take: infinity once bundles have been shown to be faster."""
        if self._is_better():
            return inf
        return 0.0 if self._is_answered and self.single_s <= AT_ONCE_S else trial.n_limit * self.single_s

    def abandoned(self) -> None:
        """Take account of a bundle on trial that was given up."""
        self._lose()

    def waited(self, elapsed_s: float) -> None:
        """Take account of the time for which the first single has not been answered."""
        if not self._is_answered:
            self.single_s = elapsed_s

    def answered(self) -> None:
        """Take account of an answer to a single that need not be good."""
        if not self._is_answered:
            self._is_answered = True
            self.single_s = 0.0

    def progressed(self, n_cutouts: int, elapsed_s: float) -> None:
        """Take account of what a bundle on trial has brought so far: its pace only grows until its end."""
        pace = n_cutouts / max(elapsed_s, 1e-3)
        if n_cutouts >= MIN_PROGRESS and pace > self.bundled_per_s and pace * self.single_s > GAIN:
            self.bundled_per_s = pace

    def single(self, n: int, mean_s: float) -> None:
        """Take account of `n` good single answers."""
        if n:
            self.answered()
            self._singles += n
            weight = min(1.0, max(n / 200, n / self._singles))
            self.single_s += (mean_s - self.single_s) * weight

    def bundle(self, n_cutouts: int, elapsed_s: float) -> None:
        """Take account of a bundle that gave `n_cutouts` in `elapsed_s`."""
        self._bundles += 1
        self._bad = 0 if n_cutouts else self._bad + 1
        if not n_cutouts:
            self.size = max(MIN_SIZE, self.size // 2)
        rate = n_cutouts / max(elapsed_s, 1e-3)
        self.bundled_per_s += (rate - self.bundled_per_s) * (1.0 if self._bundles == 1 else 0.3)
        if n_cutouts:
            wanted = self.bundled_per_s * BUNDLE_TARGET_S
            self.size = int(min(MAX_SIZE, 2 * self.size, max(MIN_SIZE, wanted)))
        self._note_result()

    def too_large(self) -> None:
        """Take account of a bundle that the archive found too large."""
        self.size = max(MIN_SIZE, self.size // 2)
        self._bad += 1
        self._note_result()

    def why(self) -> str:
        """Return the reason of the present choice, for reports."""
        if self.via != "auto":
            return f"--via {self.via}" + ("" if self.is_offered else ", but the archive offers no bundles")
        if not self.is_offered:
            return "the archive offers no bundles"
        single = (
            f"a connection gives {1 / self.single_s:.1f} single files/s" if self.single_s else "too few cutouts"
        )
        if self.bundled_per_s:
            return f"{single}, {self.bundled_per_s:.1f}/s by bundles"
        return f"{single}, less by bundles" if self._n_lost else single

    def _may_try(self, n_waiting: int) -> bool:
        is_open = self.via == "auto" and self.is_offered and n_waiting >= MIN_CUTOUTS
        return is_open and not self._is_better()

    def _is_better(self) -> bool:
        is_slow = self.single_s > AT_ONCE_S and self._bad < BAD_BUNDLES
        return is_slow and self.bundled_per_s * self.single_s > GAIN

    def _note_result(self) -> None:
        if self._bad >= BAD_BUNDLES:
            self._try_at = self._singles + NONE_FOR
            self._bad = 0 if self.via == "auto" else self._bad
            self.bundled_per_s = 0.0
        elif not self._is_better():
            self._lose()

    def _lose(self) -> None:
        """Put the next trial off; several slow bundles of one trial count once."""
        if self._singles >= self._try_at:
            self._n_lost += 1
            self._try_at = self._singles + TRY_AGAIN_AFTER * self._trial_size()

    def _trial_size(self) -> int:
        base = self._trial_base or TRIAL_MIN_SIZE
        return int(min(MAX_SIZE, base * TRIAL_GROWTH**self._n_lost))
