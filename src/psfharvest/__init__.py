"""
Download star cutouts from the WFC3 and WFPC2 PSF databases at MAST.

The names below are the public ones; each is imported when it is first used, so that a command which needs little
starts at once.
"""

from psfharvest.version import __version__

TYPE_CHECKING = False  # as in `typing`, which is not imported: until `__main__` runs, an interrupt has a traceback
if TYPE_CHECKING:
    from typing import Any

    from psfharvest import blocking, events
    from psfharvest.client import Archive
    from psfharvest.core.catalog.plan import Part
    from psfharvest.core.catalog.query import Query
    from psfharvest.core.errors import (
        AllRefused,
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
    from psfharvest.core.model import Limits, Outcome, Progress, Reason, Report, RetryPolicy, State, Tally
    from psfharvest.core.names import DetectorName, LayoutName, SinkName, SuffixName, ViaName
    from psfharvest.engine.stream import CutoutStream
    from psfharvest.store.read.harvest import Harvest

_HOMES = {
    "Archive": "client",
    "Cutout": "core.fits.cutout",
    "Harvest": "store.read.harvest",
    "Part": "core.catalog.plan",
    "Query": "core.catalog.query",
    "CutoutStream": "engine.stream",
    **dict.fromkeys(
        ("Limits", "Outcome", "Progress", "Reason", "Report", "RetryPolicy", "State", "Tally"), "core.model"
    ),
    **dict.fromkeys(("DetectorName", "LayoutName", "SinkName", "SuffixName", "ViaName"), "core.names"),
    **dict.fromkeys(
        (
            "AllRefused", "ArchiveDown", "ArchiveError", "BadInput", "BadQuery", "BadURI", "CutoutFailed",
            "CutoutMissing", "DeadlinePassed", "FolderRefused", "LocalError", "ManifestError", "PsfharvestError",
            "SinkError",
        ),
        "core.errors",
    ),
}  # fmt: skip
_MODULES = ("blocking", "events")

__all__ = [
    "AllRefused",
    "Archive",
    "ArchiveDown",
    "ArchiveError",
    "BadInput",
    "BadQuery",
    "BadURI",
    "Cutout",
    "CutoutFailed",
    "CutoutMissing",
    "CutoutStream",
    "DeadlinePassed",
    "DetectorName",
    "FolderRefused",
    "Harvest",
    "LayoutName",
    "Limits",
    "LocalError",
    "ManifestError",
    "Outcome",
    "Part",
    "Progress",
    "PsfharvestError",
    "Query",
    "Reason",
    "Report",
    "RetryPolicy",
    "SinkError",
    "SinkName",
    "State",
    "SuffixName",
    "Tally",
    "ViaName",
    "__version__",
    "blocking",
    "events",
]


def __getattr__(name: str) -> "Any":
    from importlib import import_module  # noqa: PLC0415 - see TYPE_CHECKING

    if name in _MODULES:
        return import_module(f"psfharvest.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'psfharvest' has no attribute {name!r}")
    return getattr(import_module(f"psfharvest.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
