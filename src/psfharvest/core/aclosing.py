"""Close an asynchronous iterable that can be closed, whatever way its reader leaves it."""

from __future__ import annotations

from collections.abc import AsyncIterable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any, TypeVar

T = TypeVar("T")


def closing(iterable: AsyncIterable[T]) -> AbstractAsyncContextManager[Any]:
    """Return a context at whose end `iterable` is closed, where it is a generator."""
    return aclosing(iterable) if hasattr(iterable, "aclose") else nullcontext(iterable)
