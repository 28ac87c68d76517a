"""The extra ``dask``: whether it is installed."""

from __future__ import annotations

from importlib.util import find_spec

from psfharvest.core.errors import BadInput


def require_dask() -> None:
    """Raise `BadInput` when `distributed` is not installed."""
    if find_spec("distributed") is None:
        raise BadInput("a harvest on a cluster needs Dask: pip install 'psfharvest[dask]'")
