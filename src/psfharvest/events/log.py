"""Events as records of Python's `logging`."""

from __future__ import annotations

import logging

from psfharvest.events import model
from psfharvest.events.model import Event
from psfharvest.events.words import Narrator, plain

_OF_THE_RUN = (model.Started, model.Ended, model.Asked, model.Pulse)
_OF_THE_STORE = (model.Settled, model.TakenBack)
_DEBUG_ONLY = (model.Pulse, model.Asked, model.Queried, model.Retried, model.Bundled, model.Delivered)
"""Events that never warn of anything."""
RUN, ARCHIVE, STORE = (logging.getLogger(f"psfharvest.{name}") for name in ("run", "archive", "store"))


class LogListener:
    """
    Log each event under the logger that it belongs to.

    What a run does goes to ``psfharvest.run``, the archive to ``psfharvest.archive``, stored cutouts to
    ``psfharvest.store``. Each record has the event as plain values in its attribute `psfharvest`.
    """

    def __init__(self) -> None:
        self._narrator = Narrator()

    def __call__(self, event: Event) -> None:
        """Log one event."""
        logger = logger_of(event)
        if not logger.isEnabledFor(logging.WARNING):
            return
        is_quiet = not logger.isEnabledFor(logging.INFO)
        if is_quiet and isinstance(event, _DEBUG_ONLY):
            return
        for level, words in self._narrator.sentences(event):
            if logger.isEnabledFor(level):
                logger.log(level, "%s", words, extra={"psfharvest": plain(event)})


def logger_of(event: Event) -> logging.Logger:
    """Return the logger that an event belongs to."""
    if isinstance(event, _OF_THE_RUN):
        return RUN
    return STORE if isinstance(event, _OF_THE_STORE) else ARCHIVE
