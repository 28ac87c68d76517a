"""
Every exception of psfharvest, sorted by what the caller should do.

::

    PsfharvestError
    ├─ BadInput(ValueError)     you asked for what cannot be: change the call        exit 2
    │  ├─ BadURI                  a text that is no dataURI (or a row that gives none)
    │  ├─ BadQuery                detector, column, value or suffix that does not exist
    │  └─ FolderRefused           the harvest folder is held, is another job's, or is none
    ├─ ArchiveError             the archive answered, or failed to
    │  ├─ CutoutMissing           it says that there is no such cutout: do not ask again   exit 3
    │  ├─ CutoutFailed            all attempts were used: look at the reason               exit 3
    │  │  └─ DeadlinePassed          it did not come within the deadline of the call
    │  ├─ ArchiveDown             out of reach past the patience: run again later          exit 75
    │  └─ AllRefused              one check of ours refused all that came first            exit 75
    └─ LocalError               our side broke: mend it, then run again              exit 74
       ├─ SinkError               a cutout could not be stored (disk full, not writable)
       └─ ManifestError           the manifest is damaged, foreign, or from another version

A cutout that fails inside a harvest is data (an ``Outcome``), never an exception past the engine;
a `LocalError` always stops the run. All of them pickle. Cancellation is never caught.
"""

from __future__ import annotations

from typing import Any

from psfharvest.core import advice
from psfharvest.core.exit_status import ExitStatus


class PsfharvestError(Exception):
    """Base of all; catch it to catch everything that psfharvest raises on purpose."""

    exit_status: ExitStatus = ExitStatus.UNEXPECTED
    shell: str = ""
    """The message in the words of the command line, where it is another than `in_shell` makes of it."""

    def in_shell(self) -> str:
        """Return the message as the command line says it."""
        return self.shell or advice.in_shell(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(cls: type[PsfharvestError], args: tuple[Any, ...], state: dict[str, Any]) -> PsfharvestError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class BadInput(PsfharvestError, ValueError):
    """Raised when the call itself cannot be carried out; nothing was changed."""

    exit_status = ExitStatus.BAD_INPUT


class BadURI(BadInput):
    """
    Raised when a text is no dataURI, or a catalogue row cannot be made into one.

    Attributes
    ----------
    text, why
        The offending text, and what is wrong with it.
    """

    def __init__(self, text: str, why: str) -> None:
        shown = text if len(text) <= 200 else text[:197] + "..."
        super().__init__(f"not a dataURI: {shown!r}: {why}")
        self.text = text
        self.why = why


class BadQuery(BadInput):
    """
    Raised when a query names a detector, column, value or suffix that does not exist.

    Attributes
    ----------
    field
        What was wrong: the name of a column, ``detector`` or ``suffix``.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class FolderRefused(BadInput):
    """Raised when a harvest folder is held by another process, belongs to another job, or is none."""


class ArchiveError(PsfharvestError):
    """
    Base of what the archive causes.

    Attributes
    ----------
    uri
        The dataURI (or the URL of a query) that was asked for.
    reason
        A word of the vocabulary in `psfharvest.core.model.Reason`.
    """

    exit_status = ExitStatus.INCOMPLETE

    def __init__(self, message: str, *, uri: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.uri = uri
        self.reason = reason


class CutoutMissing(ArchiveError):
    """Raised when the archive says that there is no such cutout; asking again will not help."""


class CutoutFailed(ArchiveError):
    """Raised when one cutout used up its attempts, or was refused for good."""


class DeadlinePassed(CutoutFailed, TimeoutError):
    """Raised when one cutout did not come within the deadline that the caller gave."""


class ArchiveDown(ArchiveError):
    """Raised when the archive stayed out of reach for longer than the patience; run again later."""

    exit_status = ExitStatus.PENDING


class AllRefused(ArchiveError):
    """Raised when one check of ours refused the first cutouts of a database, and none has passed."""

    exit_status = ExitStatus.PENDING


class LocalError(PsfharvestError):
    """
    Base of what our own side causes; the run stops, claimed work is kept, the same call continues.

    Attributes
    ----------
    report
        The account at the moment of the stop, where there is one.
    """

    exit_status = ExitStatus.LOCAL
    report: Any = None


class SinkError(LocalError):
    """Raised when a cutout could not be stored: disk full, folder not writable, name too long."""


class ManifestError(LocalError):
    """Raised when the manifest cannot be read or written: damaged, foreign, or of another version."""
