"""What a test can ask of a simulated archive, with a socket or without: its requests, and what it would serve."""

from abc import ABC, abstractmethod

from psfharvest.simulator.http.record import Record, Seen
from psfharvest.simulator.sky.fitscut import Fitscut


class Inspectable(ABC):
    """An archive that remembers its requests; subclasses have the record and the maker of cutouts."""

    @property
    @abstractmethod
    def record(self) -> Record:
        """The record itself, with its counters of bytes."""

    @property
    @abstractmethod
    def _cutouts(self) -> Fitscut: ...

    @property
    def requests(self) -> list[Seen]:
        """The remembered requests, oldest first."""
        return self.record.entries()

    @property
    def peak_in_flight(self) -> int:
        """Most requests that were being answered at once."""
        return self.record.peak_in_flight

    def count(self, service: str = "any") -> int:
        """
        Give the exact number of requests since the start or the last `forget`.

        Parameters
        ----------
        service
            ``file``, ``fitscut``, ``bundle``, ``query``, ``columns``, ``other`` or ``any``.
        """
        return self.record.count(service)

    def forget(self) -> None:
        """Clear the record, its counters and peaks; faults keep counting."""
        self.record.forget()

    def render(self, uri: str) -> bytes:
        """
        Give exactly what ``Download/file`` serves for a dataURI.

        Raises
        ------
        FitscutError
            Where there is no such cutout.
        """
        return self._cutouts.render(uri)
