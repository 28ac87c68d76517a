"""How a run ended, as the manifest records it and `status` shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from psfharvest import Archive
from psfharvest.core.errors import BadInput
from psfharvest.simulator import Simulator
from psfharvest.store.manifest.manifest import Manifest


@pytest.mark.anyio
@pytest.mark.parametrize("error", [TypeError("a caller's mistake"), BadInput("refused"), KeyError("k")], ids=repr)
async def test_an_unexpected_error_is_recorded_by_its_type(
    simulator: Simulator, tmp_path: Path, psfharvest: Callable, error: Exception
) -> None:
    """An error is no interruption: the run's record and `status` name its type."""

    async def broken() -> AsyncIterator[str]:
        yield "mast:HST/product/a.fits"
        raise error

    async with Archive(simulator.url) as archive:
        with pytest.raises(type(error)):
            await archive.harvest(broken(), tmp_path / "d")

    words = f"error ({type(error).__name__})"
    with Manifest.read(tmp_path / "d") as manifest:
        assert [words] == [run["stopped"] for run in manifest.runs()]
    assert f"stopped: {words}" in psfharvest("status", "d").out
    assert words == psfharvest("status", "d", "--json").account["stopped"]
