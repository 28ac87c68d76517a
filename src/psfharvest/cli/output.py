"""
Standard output and standard error of a command.

Results go to standard output; that it breaks is a failure of the command (status 74). What is for people goes to
standard error; that it breaks is not noticed.
"""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import click

from psfharvest.core.advice import in_shell
from psfharvest.core.errors import LocalError, PsfharvestError
from psfharvest.filesystem.descriptor_writer import ResultFile
from psfharvest.filesystem.standard import discard, open_missing
from psfharvest.show.unbreakable import UnbreakableStream


class BrokenOutput(LocalError):
    """
    Raised when standard output takes no results.

    Attributes
    ----------
    is_unread
        Whether its reader has gone, as ``head`` does: then nobody waits for a message.
    """

    is_unread = False


def prepare() -> None:
    """
    Make the standard streams safe for this process.

    Descriptors 0 to 2 that are closed are opened on nothing, so that no file of ours gets their numbers; texts that
    the terminal's encoding lacks are escaped. Results wait for their reader, messages do not.
    """
    open_missing()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout = _waiting(sys.stdout)
    sys.stderr = UnbreakableStream(sys.stderr)


def say(text: str) -> None:
    """Write a line for people to standard error, in the shell's words."""
    sys.stderr.write(f"psfharvest: {in_shell(text)}\n")
    sys.stderr.flush()


def fail(error: PsfharvestError | str) -> None:
    """Write why the command failed to standard error; in red on a terminal with colours, unless NO_COLOR is set."""
    text = error.in_shell() if isinstance(error, PsfharvestError) else in_shell(error)
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty()
    name = "psfharvest:" if is_plain else click.style("psfharvest:", fg="red", bold=True)
    sys.stderr.write(f"{name} {text}\n")
    sys.stderr.flush()


def result(text: object = "") -> None:
    """
    Write a line of results to standard output.

    Raises
    ------
    BrokenOutput
        When it does not take it.
    """
    if sys.stdout is None:
        raise BrokenOutput("standard output is closed; give it, or leave --json away")
    try:
        sys.stdout.write(f"{text}\n")
    except (OSError, ValueError) as error:
        raise _broken(error) from error


def result_json(plain: Mapping[str, Any]) -> None:
    """Write one JSON object as a line of results, and hand it on at once; raises `BrokenOutput`."""
    result(json.dumps(plain))
    flush()


def announce(url: str) -> None:
    """Print where a server listens, at once, for programs that wait for it."""
    result(url)
    flush()


def result_bytes(raw: bytes) -> None:
    """Write bytes to standard output and hand them on; raises `BrokenOutput`."""
    if sys.stdout is None:
        raise BrokenOutput("standard output is closed; give -o FILE")
    try:
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()
    except (OSError, ValueError) as error:
        raise _broken(error) from error


def flush() -> None:
    """Hand on what was written to standard output; raises `BrokenOutput`."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        raise _broken(error) from error


def discard_output() -> None:
    """Drop what standard output still buffers, so that flushing it at exit raises nothing."""
    if sys.stdout is not None:
        discard(sys.stdout)


def _waiting(stream: TextIO) -> TextIO:
    """Return standard output as a stream that waits where its descriptor was set not to wait."""
    if os.name == "nt" or not isinstance(stream, io.TextIOWrapper):
        return stream
    try:
        stream.flush()
        raw = ResultFile(stream.fileno())
    except (OSError, ValueError):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=stream.line_buffering
    )


def _broken(error: Exception) -> BrokenOutput:
    discard(sys.stdout)
    reason = (os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "") or str(error)
    broken = BrokenOutput(f"cannot write to standard output: {reason}")
    broken.is_unread = isinstance(error, OSError) and error.errno == errno.EPIPE
    return broken
