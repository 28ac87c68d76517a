"""``--metrics-port``: the metrics of a run, for Prometheus to read while it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from psfharvest.cli.options import F
from psfharvest.cli.output import say
from psfharvest.filesystem import extras

if TYPE_CHECKING:
    from psfharvest.events import Event, Listener

LOOPBACK = "127.0.0.1"


class Place(NamedTuple):
    """Where to listen."""

    host: str
    port: int


class _Place(click.ParamType[Place]):
    """A port, or an address and a port."""

    name = "[host:]port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """Return the place that a word writes, or fail with what is allowed."""
        host, colon, port = str(value).rpartition(":")
        host = host.removeprefix("[").removesuffix("]") if colon else LOOPBACK
        if not (host and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535):
            self.fail(
                f"{value!r}: a port from 0 to 65535 is allowed (0 takes a free one), or HOST:PORT such as "
                "0.0.0.0:9100, which other machines reach.",
                param,
                ctx,
            )
        return Place(host, int(port))


metrics_option = click.option(
    "--metrics-port",
    "metrics_place",
    type=_Place(),
    metavar="[HOST:]PORT",
    help="While it goes on, serve metrics for Prometheus there; HOST is 127.0.0.1 if not given, PORT 0 a free one.",
)


def with_metrics(command: F) -> F:
    """Add ``--metrics-port``."""
    return metrics_option(command)


@contextmanager
def metrics_served(place: Place | None, *, is_quiet: bool) -> Iterator[Listener | None]:
    """
    Serve metrics within this context, and give the listener that they are fed by; None where no port is wanted.

    Raises
    ------
    BadInput
        When the extra is not installed, or the port is in use.
    """
    if place is None:
        yield None
        return
    extras.require("--metrics-port", "metrics", "prometheus_client")
    from psfharvest.metrics.exporter import served  # noqa: PLC0415 - an extra
    from psfharvest.metrics.prometheus import Metrics  # noqa: PLC0415 - as above

    metrics = Metrics()
    with served(metrics, *place) as url:
        if not is_quiet:
            say(f"metrics: {url}")
        yield metrics


def to_each(*listeners: Listener | None) -> Listener | None:
    """Return a listener that calls each of those that are given; None where none is."""
    chosen = [listener for listener in listeners if listener is not None]

    def notify(event: Event) -> None:
        for listener in chosen:
            listener(event)

    return notify if chosen else None
