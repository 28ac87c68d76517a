"""Both event loops: asyncio in the default run, trio in the campaign; engine and wires have both in either."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["asyncio", pytest.param("trio", marks=pytest.mark.campaign)])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run a test on both event loops, the second in the campaign."""
    return str(request.param)
