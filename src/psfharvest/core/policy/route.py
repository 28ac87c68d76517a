"""
Choice between single files and bundles, by the number of cutouts and the measured throughput of both.

The measure is cutouts per second and connection, since an archive limits the connections. Singles are
measured first; where one is answered at once, bundles have nothing to win. Else a few small bundles are tried while
singles go on. A trial costs a fixed part of the work at most: it is abandoned once its cutouts could have come
singly in the time that it has taken. A trial that was slower is repeated with a larger bundle, since bundles may
have a fixed cost, and after so many more singles that the trials together stay a small part of the work.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_CUTOUTS = 200
"""Fewer waiting ones are not worth a trial."""
MIN_SINGLES = 6
"""Single answers before the first judgement: one on each connection."""
AT_ONCE_S = 0.05
"""Where a single file takes no longer, bundles are not tried: they cannot be faster."""
GAIN = 1.2
"""Bundles are chosen when their throughput is higher by this factor."""
MIN_SIZE, FIRST_SIZE, MAX_SIZE = 50, 100, 2000
BUNDLE_TARGET_S = 25.0
"""How long a bundle should take: a kill loses all of it, since it is claimed only once its end is verified."""
FIRST_TRIALS = 3
"""Bundles of the first trial."""
TRIAL_MIN_SIZE = 10
TRIAL_SHARE = 100
"""A bundle of the first trial holds this part of what waits."""
TRIAL_GROWTH = 4
"""Factor between the sizes of a trial that was slower than single files, and the next one."""
TRY_AGAIN_AFTER = 40
"""Single files before the next trial, for each cutout in its bundle, where the last one was slower."""
BAD_BUNDLES = 3
"""After so many bundles in a row without a cutout, none is sent for a while."""
NONE_FOR = 5000
"""Single files before bundles are tried again after that."""


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
    """Mean time of a single, over the recent ones."""
    bundled_per_s: float = 0.0
    """Cutouts a second that a bundle's connection gives, over the recent ones."""
    size: int = FIRST_SIZE
    """Cutouts that the next bundle should hold."""
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
        return n_waiting >= MIN_SIZE and self._is_better()

    def trial(self, n_waiting: int) -> tuple[int, int]:
        """Return how many bundles should be on trial beside the singles, and how many cutouts each should hold."""
        if self.via != "auto" or not self.is_offered or n_waiting < MIN_CUTOUTS or self._is_better():
            return 0, 0
        if self._singles < max(MIN_SINGLES, self._try_at) or self.single_s <= AT_ONCE_S:
            return 0, 0
        if not self._n_lost:
            self._trial_base = min(FIRST_SIZE, max(TRIAL_MIN_SIZE, n_waiting // TRIAL_SHARE))
        return 1 if self._n_lost else FIRST_TRIALS, self._trial_size()

    def trial_limit_s(self, n_cutouts: int) -> float:
        """Return for how long a bundle on trial may take: as long as its cutouts would take singly."""
        return 0.0 if self.single_s <= AT_ONCE_S else n_cutouts * self.single_s

    def abandoned(self) -> None:
        """Take account of a bundle on trial that was given up."""
        self._lose()

    def single(self, n: int, mean_s: float) -> None:
        """Take account of `n` single answers."""
        if n:
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
        if self._bundles:
            return f"{single}, {self.bundled_per_s:.1f}/s by bundles"
        return f"{single}, less by bundles" if self._n_lost else single

    def _is_better(self) -> bool:
        is_proven = self._bundles > 0 and self._bad < BAD_BUNDLES
        return is_proven and self.single_s > AT_ONCE_S and self.bundled_per_s * self.single_s > GAIN

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
