"""A port at which Prometheus reads the metrics of this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server

from psfharvest.core.errors import BadInput
from psfharvest.metrics.prometheus import Metrics


@contextmanager
def served(metrics: Metrics, host: str, port: int) -> Iterator[str]:
    """
    Serve the metrics within this context, in threads of their own; give their address.

    Raises
    ------
    BadInput
        When it cannot listen there.
    """
    registry = CollectorRegistry()
    registry.register(metrics)
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except (OSError, UnicodeError) as error:
        words = getattr(error, "strerror", None) or error
        raise BadInput(
            f"cannot listen on {host}:{port}: {words}; choose another port, or 0 for a free one"
        ) from error
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
