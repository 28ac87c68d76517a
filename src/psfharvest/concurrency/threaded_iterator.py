"""
A caller's iterator, read in a thread of its own: it may wait as long as it likes, and holds nobody back.

The thread is a daemon, reads ahead by a bounded number, and stops at its next item once nobody wants more.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

READ_AHEAD = 2000

T = TypeVar("T")


class Carried(Exception):
    """Raised in an event loop in the place of an error that would end the loop, such as `SystemExit`."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(repr(error))
        self.error = error


async def read_aside(given: Iterable[T]) -> AsyncGenerator[T, None]:
    """Yield what an iterable gives, and raise what it raises; `Carried` for what is no `Exception`."""
    reader = _Reader(given)
    threading.Thread(target=reader.read, name="psfharvest-reader", daemon=True).start()
    try:
        while (message := await reader.next()) is not None:
            yield message[0]
    finally:
        reader.close()
    if reader.error is not None:
        raise reader.error


class _Reader(Generic[T]):
    def __init__(self, given: Iterable[T]) -> None:
        self.error: Exception | None = None
        self._given = given
        self._found: deque[tuple[T] | None] = deque()
        self._news = anyio.Event()
        self._room = threading.Semaphore(READ_AHEAD)
        self._is_unwanted = False
        self._call_soon = anyio.lowlevel.current_token().native_token.call_soon_threadsafe  # type: ignore[attr-defined]

    def read(self) -> None:
        """Read all; in the thread."""
        with suppress(RuntimeError):  # the loop is gone
            try:
                for item in self._given:
                    self._room.acquire()
                    if self._is_unwanted:
                        return
                    self._call_soon(self._send, (item,))
            except BaseException as error:  # noqa: BLE001 - raised where it is read
                self.error = error if isinstance(error, Exception) else Carried(error)
            self._call_soon(self._send, None)

    async def next(self) -> tuple[T] | None:
        """Return the next item, or nothing after the last."""
        while not self._found:
            self._news = anyio.Event()
            await self._news.wait()
        self._room.release()
        return self._found.popleft()

    def close(self) -> None:
        """Want no more."""
        self._is_unwanted = True
        self._room.release()

    def _send(self, message: tuple[T] | None) -> None:
        self._found.append(message)
        self._news.set()
