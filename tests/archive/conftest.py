"""Both event loops, in the default run, too: this is where the package waits for the network."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run a test on both event loops."""
    return str(request.param)
