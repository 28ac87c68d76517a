"""Whether this process uses OpenTelemetry; nothing of it is imported where it does not."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext

from psfharvest.events.hub import Hub
from psfharvest.metrics.limiter import Limiter

_METRICS, _TRACE = "opentelemetry.metrics", "opentelemetry.trace"
_NOTHING = nullcontext()


def observe(hub: Hub, limiter: Limiter, url: str, *, is_own_wire: bool) -> None:
    """
    Give metrics and spans of an archive to OpenTelemetry, where this process has set a provider.

    Parameters
    ----------
    hub
        Whose events are counted.
    limiter
        The archive's.
    url
        Its address.
    is_own_wire
        False where the caller's own client sends the requests, whose instrumentation is the caller's matter.
    """
    if is_used():
        from psfharvest.metrics.telemetry import Telemetry  # noqa: PLC0415 - where it is used only

        hub.also(Telemetry(limiter, url, is_own_wire=is_own_wire))


def fetch_span(uri: str) -> AbstractContextManager[object]:
    """Return the span of one single request, or a context that does nothing."""
    if not is_used():
        return _NOTHING
    from psfharvest.metrics import telemetry  # noqa: PLC0415 - as above

    return telemetry.fetch_span(uri)


def is_used() -> bool:
    """Return whether a provider of metrics or traces is set in this process."""
    if _METRICS not in sys.modules and _TRACE not in sys.modules:
        return False  # code that sets a provider has imported the API
    from psfharvest.metrics import telemetry  # noqa: PLC0415 - as above

    return telemetry.has_provider()
