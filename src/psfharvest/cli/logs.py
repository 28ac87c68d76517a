"""``-v`` and ``--log-file``: the log on standard error, and a harvest's events as lines of JSON."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from psfharvest.cli.options import F
from psfharvest.cli.output import say
from psfharvest.core.errors import BadInput

if TYPE_CHECKING:
    from psfharvest.events import Event, Listener

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
"""Of no ``-v``, of one, and of two."""


def log_options(command: F) -> F:
    """Add ``-v`` and ``--log-file``."""
    verbose = click.option(
        "-v", "--verbose", "verbosity", count=True, help="Log on standard error; -vv: all of it."
    )
    log_file = click.option(
        "--log-file",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Append what happens to FILE: a line of JSON an event, times in UTC.",
    )
    return verbose(log_file(command))


@contextlib.contextmanager
def logs(log_file: Path | None, verbosity: int) -> Iterator[Listener | None]:
    """Log on standard error within this context; give what writes a run's events to a file, if one is wanted."""
    with events_to_file(log_file) as listener, logging_to_stderr(verbosity):
        yield listener


@contextlib.contextmanager
def logging_to_stderr(verbosity: int) -> Iterator[None]:
    """Show the package's log records on standard error within this context."""
    logger = logging.getLogger("psfharvest")
    handler, level = _StderrHandler(verbosity), logger.level
    logger.addHandler(handler)
    logger.setLevel(LEVELS[min(verbosity, len(LEVELS) - 1)])
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextlib.contextmanager
def events_to_file(path: Path | None) -> Iterator[Listener | None]:
    """
    Give a listener that appends each event to a file; None where no file is wanted.

    Raises
    ------
    BadInput
        When the file cannot be opened.
    """
    if path is None:
        yield None
        return
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--log-file {path}: {error.strerror}; choose a file that can be written") from error
    with contextlib.closing(_LineWriter(file, path)) as writer:
        yield writer.put


class _StderrHandler(logging.Handler):
    """Writes records as the command's own lines; events only when they are asked for, the bar shows them else."""

    def __init__(self, verbosity: int) -> None:
        super().__init__()
        self._shows_events = verbosity > 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        if self._shows_events or not hasattr(record, "psfharvest"):
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime(record.created)) if self._shows_events else ""
            say(f"{at}{record.getMessage()}")


class _LineWriter:
    """Writes events in a thread of its own, so that a slow disk holds nobody up; an error ends it with a word."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self._file = file
        self._path = path
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="psfharvest-log-file", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Take an event."""
        self._events.put(event)

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._events.put(None)
        self._thread.join(timeout=5.0)

    def _write_all(self) -> None:
        from psfharvest.events import plain  # noqa: PLC0415 - only where events are written

        try:
            with self._file as file:
                while (event := self._events.get()) is not None:
                    file.write(f"{json.dumps(plain(event))}\n")
                    if self._events.empty():
                        file.flush()
        except OSError as error:
            say(f"--log-file {self._path}: {error.strerror}; no more is written to it")
