"""
Download star cutouts from the WFC3 and WFPC2 PSF databases at MAST.

The names below are the public ones; each is imported when it is first used, so that a command which needs little
starts at once.
"""

from psfharvest.version import __version__

TYPE_CHECKING = False  # as in `typing`, which is not imported: until `__main__` runs, an interrupt has a traceback
if TYPE_CHECKING:
    from typing import Any

    from psfharvest.client import Archive
    from psfharvest.core.catalog.plan import Part
    from psfharvest.core.catalog.query import Query
    from psfharvest.core.errors import (
        ArchiveDown,
        ArchiveError,
        BadInput,
        BadQuery,
        BadURI,
        CutoutFailed,
        CutoutMissing,
        DeadlinePassed,
        FolderRefused,
        LocalError,
        ManifestError,
        PsfharvestError,
        SinkError,
    )
    from psfharvest.core.fits.cutout import Cutout
    from psfharvest.core.model import Limits, Progress, Reason, Report, RetryPolicy, State
    from psfharvest.store.read.harvest import Harvest

_HOMES = {
    "Archive": "client",
    "Cutout": "core.fits.cutout",
    "Harvest": "store.read.harvest",
    "Part": "core.catalog.plan",
    "Query": "core.catalog.query",
    **dict.fromkeys(("Limits", "Progress", "Reason", "Report", "RetryPolicy", "State"), "core.model"),
    **dict.fromkeys(
        (
            "ArchiveDown", "ArchiveError", "BadInput", "BadQuery", "BadURI", "CutoutFailed", "CutoutMissing",
            "DeadlinePassed", "FolderRefused", "LocalError", "ManifestError", "PsfharvestError", "SinkError",
        ),
        "core.errors",
    ),
}  # fmt: skip

__all__ = [
    "Archive",
    "ArchiveDown",
    "ArchiveError",
    "BadInput",
    "BadQuery",
    "BadURI",
    "Cutout",
    "CutoutFailed",
    "CutoutMissing",
    "DeadlinePassed",
    "FolderRefused",
    "Harvest",
    "Limits",
    "LocalError",
    "ManifestError",
    "Part",
    "Progress",
    "PsfharvestError",
    "Query",
    "Reason",
    "Report",
    "RetryPolicy",
    "SinkError",
    "State",
    "__version__",
]


def __getattr__(name: str) -> "Any":
    from importlib import import_module  # noqa: PLC0415 - see TYPE_CHECKING

    if name not in _HOMES:
        raise AttributeError(f"module 'psfharvest' has no attribute {name!r}")
    return getattr(import_module(f"psfharvest.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
