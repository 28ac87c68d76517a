"""
The command line: words in, one account out.

What is for people goes to standard error; standard output holds results only, and with ``--json`` one object as
its last line. Heavy modules are imported by the commands that need them.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from psfharvest.version import __version__

_HOMES = {
    "demo": "demo",
    "count": "catalogue",
    "query": "catalogue",
    "fetch": "fetch",
    "harvest": "harvest",
    "resume": "harvest",
    "status": "status",
    "verify": "verify",
    "adopt": "adopt",
    "plot": "plot",
    "export": "export",
    "serve": "serve",
    "simulate": "simulate",
}


class _LazyGroup(click.Group):
    """Commands in the order of a user's day, each imported when it is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _HOMES:
            return None
        command = getattr(import_module(f"psfharvest.cli.{_HOMES[cmd_name]}"), cmd_name)
        return command if isinstance(command, click.Command) else None


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command explains itself: psfharvest harvest --help",
)
@click.version_option(__version__, prog_name="psfharvest")
def cli() -> None:
    """
    Download star cutouts from the WFC3 and WFPC2 PSF databases at MAST.

    \b
    psfharvest demo                                        a tour without the network
    psfharvest count UVIS filter=F606W n_sat_pixels=0      how many sources there are
    psfharvest harvest stars UVIS filter=F606W --limit 1000 --suffix flc
    psfharvest status stars                                what has come, what is missing and why
    """


def main() -> None:
    """Run the command line and leave with its exit status."""
    from psfharvest.core.errors import PsfharvestError  # noqa: PLC0415 - keeps --version instant
    from psfharvest.filesystem import open_limit  # noqa: PLC0415

    open_limit.raise_limit()
    status = 0
    try:
        result = cli.main(standalone_mode=False)
        status = result if isinstance(result, int) else 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except PsfharvestError as error:
        click.echo(f"psfharvest: {error}", err=True)
        status = error.exit_status
    except (KeyboardInterrupt, click.Abort):
        status = 130
    except BrokenPipeError:
        # the reader of our output has gone: nobody is left to be told
        _close_output()
        status = 141
    except OSError as error:
        _close_output()
        click.echo(f"psfharvest: cannot write the result: {error.strerror or error}", err=True)
        status = 74
    sys.exit(status)


def _close_output() -> None:
    """Let what is still buffered go nowhere, so that the interpreter's exit does not stumble over it."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no path of a user's
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
