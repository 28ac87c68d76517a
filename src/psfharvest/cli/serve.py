"""``serve``: a page to watch harvests and browse their stars."""

from __future__ import annotations

from pathlib import Path

import click

from psfharvest.cli.options import FOLDER
from psfharvest.cli.output import announce
from psfharvest.filesystem import extras


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=FOLDER)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="H", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, metavar="P", help="[default: a free one]")
@click.option(
    "--token",
    envvar="PSFHARVEST_SERVE_TOKEN",
    show_envvar=True,
    metavar="TEXT",
    help="Who reads must have it.  [default: none on this machine's own address, else a random one]",
)
@click.option(
    "--name", "names", multiple=True, metavar="NAME", help="Another name of this server, such as a proxy's."
)
def serve(folders: tuple[Path, ...], host: str, port: int, token: str | None, names: tuple[str, ...]) -> None:
    """
    Show harvests in a browser, also while they go on; the first line printed is the address to open.

    \b
    psfharvest serve stars
    psfharvest serve stars other-stars --port 8080
    psfharvest serve stars --host 0.0.0.0              for other machines: the address has a token
    ssh -L 8080:127.0.0.1:8080 cluster psfharvest serve stars --port 8080

    It reads only, and needs no network. Interrupt it to end it.
    """
    extras.require("the page", "service", "starlette", "uvicorn")
    from psfharvest.serve.server import Address, Service, run  # noqa: PLC0415 - an extra

    service = Service(folders, Address(host, port, token, names))
    run(service, lambda: announce(service.url))
