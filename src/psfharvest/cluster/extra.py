"""The extra ``dask``: whether it is installed."""

from __future__ import annotations

from psfharvest.core.errors import BadInput
from psfharvest.filesystem import extras


def require_dask() -> None:
    """Raise `BadInput` when `distributed` is not installed."""
    missing = extras.needs("a harvest on a cluster", "dask", "distributed")
    if missing is not None:
        raise BadInput(missing)
