"""Options that several commands share, and what they make: an `Archive`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import click
from click.core import ParameterSource

from psfharvest.cli.output import say
from psfharvest.core import ranges
from psfharvest.core.errors import BadInput
from psfharvest.core.ranges import NumberRange

if TYPE_CHECKING:
    from psfharvest.client import Archive
    from psfharvest.core.catalog.query import Query
    from psfharvest.core.model import Limits


class _Folder(click.Path):
    """A harvest folder; the empty word, as from a variable that is not set, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("an empty name; give the harvest folder", param, ctx)
        return super().convert(value, param, ctx)


class Number(click.ParamType[float]):
    """A finite number within a range that Python's side of the same setting allows, too."""

    def __init__(self, allowed: NumberRange) -> None:
        self.name = "integer" if allowed.is_whole else "float"
        self._allowed = allowed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number that a word writes, or fail with what is allowed."""
        try:
            number = int(value) if self._allowed.is_whole else float(value)
        except (ValueError, OverflowError):
            number = None
        if number is None or number not in self._allowed:
            self.fail(f"{value!r}: {self._allowed} is allowed.", param, ctx)
        return number


FOLDER = _Folder(file_okay=False, path_type=Path)
F = TypeVar("F", bound=Callable[..., Any])

CRITERIA_HELP = """
    \b
    A CRITERION is  column=value     exactly this
                    column=a,b,c     any of these
                    column=lo..hi    a closed range; either end may be left out
"""


def archive_options(command: F) -> F:
    """Add what every command that talks to an archive takes."""
    for option in reversed(
        [
            click.option(
                "--archive",
                metavar="URL",
                envvar="PSFHARVEST_ARCHIVE",
                show_envvar=True,
                help="Base URL of a mirror or simulator; without it, MAST itself.",
            ),
            click.option(
                "--token",
                envvar="MAST_API_TOKEN",
                show_envvar=True,
                help="MAST token, for data that are not public; sent to the archive's host only.",
            ),
            click.option(
                "--max-connections",
                type=Number(ranges.CONNECTIONS),
                metavar="N",
                help="Connections to the host, queries included.  [default: 6 for MAST (10 at most), else 32]",
            ),
            click.option(
                "--max-per-second",
                type=Number(ranges.PER_SECOND),
                metavar="R",
                help="Requests started per second, at most.",
            ),
            click.option(
                "--timeout",
                "timeout_s",
                type=Number(ranges.TIMEOUT_S),
                metavar="SECONDS",
                help="Without a byte.  [default: 30; 60 for a query]",
            ),
            click.option(
                "--attempts",
                type=Number(ranges.ATTEMPTS),
                default=5,
                show_default=True,
                metavar="N",
                help="Requests for one cutout, the first included.",
            ),
        ]
    ):
        command = option(command)
    return command


SHORT_PATIENCE_S = 60.0
"""Of commands that ask once; unless it is given, they end earlier where no connection ever comes about."""


def accept_option(command: F) -> F:
    """Add ``--accept``."""
    return click.option(
        "--accept",
        multiple=True,
        metavar="QUIRK",
        help="A deviation of cutouts that passes, such as wrong_shape: stored as it comes, counted as a quirk. "
        "Repeatable; a wrong name is answered with all that there are.",
    )(command)


def patience_option(default_s: float) -> Callable[[F], F]:
    """Return the option ``--patience`` with a command's own default."""
    return click.option(
        "--patience",
        "patience_s",
        type=Number(ranges.PATIENCE_S),
        default=default_s,
        show_default=True,
        metavar="SECONDS",
        help="How long an outage of the archive may last before the command stops.",
    )


def page_rows_option(command: F) -> F:
    """Add ``--page-rows``."""
    return click.option(
        "--page-rows",
        type=Number(ranges.PAGE_ROWS),
        default=50_000,
        show_default=True,
        metavar="N",
        help="What one answer to a query is trusted to hold; longer ones are split.",
    )(command)


json_option = click.option("--json", "as_json", is_flag=True, help="End standard output with one JSON object.")


class _Size(click.ParamType[int]):
    """A number of bytes, also with a decimal unit: ``500M``, ``2.5G``, ``1T``."""

    name = "size"
    _UNITS: ClassVar = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes that a word writes."""
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)b?", str(value).strip().lower())
        size_bytes = float(found[1]) * self._UNITS[found[2]] if found else math.inf
        if size_bytes not in ranges.STORED_BYTES._replace(is_whole=False):
            self.fail(f"{value!r}: a number of bytes is allowed, for example 500M, 2.5G or 1T.", param, ctx)
        return int(size_bytes)


max_bytes_option = click.option(
    "--max-bytes",
    type=_Size(),
    metavar="BYTES",
    help="Stop (75) before DIR's cutouts are larger than this: 500M, 10G.",
)
ARCHIVE_OPTIONS = frozenset(
    {"archive", "token", "max_connections", "max_per_second", "timeout_s", "attempts", "patience_s", "page_rows"}
)
"""Names of what `make_archive` takes."""


def make_archive(**options: Any) -> Archive:
    """Return the archive that the shared options describe, not yet open."""
    return make_archive_and_limits(**options)[0]


def make_archive_and_limits(
    *,
    archive: str | None,
    token: str | None,
    max_connections: int | None,
    max_per_second: float | None,
    timeout_s: float | None,
    attempts: int,
    patience_s: float,
    page_rows: int = 50_000,
) -> tuple[Archive, Limits]:
    """Return the archive that the shared options describe, not yet open, and its limits."""
    from psfharvest.client import Archive  # noqa: PLC0415 - heavy
    from psfharvest.core.model import CONNECT_TRIES, PUBLIC_CEILING, Limits, RetryPolicy  # noqa: PLC0415

    limits = Limits(
        max_connections=max_connections, max_per_second=max_per_second, timeout_s=timeout_s, page_rows=page_rows
    )
    source = click.get_current_context().get_parameter_source("patience_s")
    is_patient = patience_s != SHORT_PATIENCE_S or source is ParameterSource.COMMANDLINE
    made = Archive(
        archive,
        token=token,
        limits=limits,
        retry=RetryPolicy(
            attempts=attempts, patience_s=patience_s, connect_tries=None if is_patient else CONNECT_TRIES
        ),
    )
    if made.endpoints.is_public and (max_connections or 0) > PUBLIC_CEILING:
        say(f"MAST allows {PUBLIC_CEILING} connections at most; using {PUBLIC_CEILING}")
    return made, limits


def parse_query(words: tuple[str, ...], columns: str | None, limit: int | None) -> Query:
    """Return the query that the words of a command line ask for: a detector, then criteria."""
    from psfharvest.core.catalog.query import Query  # noqa: PLC0415

    detector, *criteria = words
    if "," in detector or detector.lower() == "all":
        raise BadInput(f"{detector}: one detector is asked for here; run the command once for each")
    return Query.parse(detector, criteria, columns=split(columns) or None, limit=limit)


def parse_queries(words: tuple[str, ...], columns: str | None, limit: int | None) -> list[Query]:
    """Return one query for each detector that the first word names: ``UVIS``, ``UVIS,IR`` or ``all``."""
    from psfharvest.core.catalog.detectors import detectors  # noqa: PLC0415
    from psfharvest.core.catalog.query import Query  # noqa: PLC0415

    names = [detector.name for detector in detectors(words[0])]
    return [Query.parse(name, words[1:], columns=split(columns) or None, limit=limit) for name in names]


def split(text: str | None) -> list[str]:
    """Return the parts of a list with commas, without blanks."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def split_all(texts: tuple[str, ...]) -> list[str]:
    """Return the parts of a repeated option, each of which may be a list with commas."""
    return [part for text in texts for part in split(text)]


def states(text: str) -> tuple[str, ...]:
    """Return the states that ``--retry`` names."""
    found = tuple(split(text))
    for state in found:
        if state not in ("failed", "missing"):
            raise BadInput(f"--retry {state!r}: failed and missing are allowed, separated by a comma")
    return found
