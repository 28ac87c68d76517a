"""Buffer of a bundle's unverified members: up to 1 MiB in memory, the rest on disk."""

from __future__ import annotations

from collections import deque

from psfharvest.core.model import Delivery
from psfharvest.core.ports import Staged


class Arrivals:
    """
    Deliveries of one bundle, in the order of their arrival.

    Parameters
    ----------
    staged
        Takes the bodies that go to the disk.
    memory_bytes
        So many bytes of bodies are held in memory; with more, `is_full` asks for `spill`.
    """

    def __init__(self, staged: Staged, memory_bytes: int) -> None:
        self._staged = staged
        self._memory_bytes = memory_bytes
        self._spilled: deque[tuple[Delivery, int]] = deque()
        """Without their bodies, and the sizes of these in bytes."""
        self._held: deque[Delivery] = deque()
        self._held_bytes = 0
        self._is_spilled = False
        self.n_whole = 0
        """Whole cutouts among those not yet taken."""

    def __len__(self) -> int:
        return len(self._spilled) + len(self._held)

    @property
    def is_full(self) -> bool:
        """True when memory holds as much as it should."""
        return self._held_bytes >= self._memory_bytes

    @property
    def is_spilled(self) -> bool:
        """True when some of it is on the disk: then `take` and `discard` belong off the event loop."""
        return self._is_spilled

    def add(self, delivery: Delivery) -> None:
        """Take in one delivery."""
        self._held.append(delivery)
        self._held_bytes += len(delivery.body or b"")
        self.n_whole += delivery.body is not None

    def spill(self) -> None:
        """
        Move the bodies from memory to the disk; call it off the event loop.

        Raises
        ------
        LocalError
            When they cannot be written.
        """
        self._is_spilled = True
        self._staged.append([d.body for d in self._held if d.body is not None])
        self._spilled.extend((d._replace(body=None), len(d.body or b"")) for d in self._held)
        self._held.clear()
        self._held_bytes = 0

    def take(self, n: int) -> list[Delivery]:
        """
        Return the next deliveries, `n` at most.

        Raises
        ------
        LocalError
            When a body cannot be read back.
        """
        chosen = [self._spilled.popleft() for _ in range(min(n, len(self._spilled)))]
        sizes = [size for _, size in chosen if size]
        bodies = iter(self._staged.read(sizes) if sizes else ())
        taken = [d._replace(body=next(bodies)) if size else d for d, size in chosen]
        taken += [self._held.popleft() for _ in range(min(n - len(taken), len(self._held)))]
        self._held_bytes = sum(len(d.body or b"") for d in self._held)
        self.n_whole -= sum(d.body is not None for d in taken)
        return taken

    def clear(self) -> list[Delivery]:
        """Forget all bodies, and return what they were delivered for."""
        deliveries = [d for d, _ in self._spilled] + [d._replace(body=None) for d in self._held]
        self._spilled.clear()
        self._held.clear()
        self._held_bytes = self.n_whole = 0
        return deliveries

    def discard(self) -> None:
        """Remove what is on the disk."""
        if self._is_spilled:
            self._staged.discard()
