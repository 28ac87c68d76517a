"""
Command-line interface: a group of lazily imported commands, and the mapping of errors to exit statuses.

What is for people goes to standard error; standard output holds results only, and with ``--json`` one object as
its last line. Heavy modules are imported by the commands that need them.
"""

from __future__ import annotations

import errno
import sys
from importlib import import_module

import click

from psfharvest.core.exit_status import ExitStatus
from psfharvest.version import __version__

_COMMANDS = {
    "demo": ("demo", "A tour without the network: harvest and draw simulated stars."),
    "count": ("catalogue", "Print the number of sources."),
    "query": ("catalogue", "Get metadata as a table, on the terminal or in a file."),
    "columns": ("columns", "Show the columns that can be asked for: unit, meaning, values."),
    "fetch": ("fetch", "Download one cutout."),
    "harvest": ("harvest", "Download cutouts into DIR; the same command again continues."),
    "resume": ("harvest", "Go on with what DIR's manifest has recorded."),
    "status": ("status", "Show what DIR holds, what is missing, and why."),
    "verify": ("verify", "Compare every stored cutout with DIR's manifest."),
    "adopt": ("adopt", "Make DIR's manifest anew from the cutouts in it."),
    "merge": ("merge", "Make one harvest folder of several, or of a harvest in parts."),
    "convert": ("merge", "Store DIR's cutouts in a new folder with another sink."),
    "plot": ("plot", "Draw cutouts: a contact sheet."),
    "export": ("export", "Write pixels and metadata together: Parquet, Zarr, NumPy."),
    "doctor": ("doctor", "Check by a few requests whether the archive is as expected."),
    "serve": ("serve", "Show harvests in a browser, also while they go on."),
    "simulate": ("simulate", "Serve the simulated archive."),
}
"""By name: the module that has the command, and its line in the list, for which it is not imported."""


class _LazyGroup(click.Group):
    """Commands in the order of a user's day, each imported when it is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that words name; a wrong one is answered with those that are near."""
        name = args[0]
        if name not in _COMMANDS and name not in ("help", "version") and not name.startswith("-"):
            import difflib  # noqa: PLC0415 - only for a mistake

            near = difflib.get_close_matches(name.lower(), [*_COMMANDS, "help", "version"], n=2, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else "'psfharvest help' shows all commands"
            ctx.fail(f"No such command {name!r}; {hint}")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "help":
            return _help
        if cmd_name == "version":
            return _version
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(f"psfharvest.cli.{_COMMANDS[cmd_name][0]}"), cmd_name)
        return command if isinstance(command, click.Command) else None


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""Every command explains itself: psfharvest harvest --help, or psfharvest help harvest.

    \b
    Completion of commands, detectors, columns, filters and suffixes (zsh and fish likewise):
    eval "$(_PSFHARVEST_COMPLETE=bash_source psfharvest)"
    """,
)
@click.version_option(__version__, "-V", "--version", prog_name="psfharvest")
def cli() -> None:
    """
    Download star cutouts from the WFC3 and WFPC2 PSF databases at MAST.

    \b
    psfharvest demo                                        a tour without the network
    psfharvest count UVIS filter=F606W n_sat_pixels=0      how many sources there are
    psfharvest harvest stars UVIS filter=F606W --limit 1000 --suffix flc
    psfharvest status stars                                what has come, what is missing and why
    """


@click.command("help")
@click.argument("command", required=False)
@click.pass_context
def _help(ctx: click.Context, command: str | None) -> None:
    """Show all commands, or what one command does."""
    from psfharvest.cli.output import result  # noqa: PLC0415

    parent = ctx.parent or ctx
    if command is None:
        result(parent.get_help())
        return
    name, found, _ = cli.resolve_command(parent, [command])
    assert found is not None  # noqa: S101 - resolve_command fails otherwise
    result(found.get_help(click.Context(found, info_name=name, parent=parent)))


@click.command("version")
def _version() -> None:
    """Show the version."""
    from psfharvest.cli.output import result  # noqa: PLC0415

    result(f"psfharvest, version {__version__}")


def main() -> None:
    """Run the command line and leave with its exit status."""
    from psfharvest.cli import interrupts, output  # noqa: PLC0415 - keeps an interrupt while starting silent
    from psfharvest.filesystem import open_limit  # noqa: PLC0415

    open_limit.raise_limit()
    output.prepare()
    try:
        interrupts.listen()
        status = _status()
    except KeyboardInterrupt as error:
        status = 128 + interrupts.number(error)
    sys.exit(status)


def _status() -> int:
    """Run the command, say what went wrong, and return its exit status."""
    from psfharvest.cli import interrupts, output  # noqa: PLC0415
    from psfharvest.core.errors import PsfharvestError  # noqa: PLC0415

    try:
        status = cli.main(prog_name="psfharvest", standalone_mode=False)
        output.flush()
        return status if isinstance(status, int) else ExitStatus.DONE
    except click.ClickException as error:
        error.show(sys.stderr)
        return error.exit_code
    except click.Abort as error:
        return 128 + interrupts.number(error.__cause__)
    except output.BrokenOutput as error:
        if not error.is_unread:
            output.fail(error)
        return error.exit_status
    except PsfharvestError as error:
        output.fail(error)
        return error.exit_status
    except OSError as error:
        if error.errno != errno.EPIPE:
            output.fail(f"the system refused: {error}")
        output.discard_output()
        return ExitStatus.LOCAL
