"""Blocking methods with the parameters, defaults and types of the asynchronous methods that they wait for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


def signature_of(
    original: Callable[Concatenate[Any, P], object], **defaults: object
) -> Callable[[Callable[Concatenate[S, ...], R]], Callable[Concatenate[S, P], R]]:
    """
    Return a decorator that gives a method the parameters of `original`.

    The decorated method gets every argument by keyword. `defaults` replaces defaults of the original's.

    Raises
    ------
    TypeError
        From a call whose arguments do not fit the parameters, before anything is done.
    """
    signature = inspect.signature(original)
    parameters = [
        parameter.replace(default=defaults.get(name, parameter.default))
        for name, parameter in signature.parameters.items()
    ]

    def decorate(method: Callable[Concatenate[S, ...], R]) -> Callable[Concatenate[S, P], R]:
        own = signature.replace(
            parameters=parameters, return_annotation=inspect.signature(method).return_annotation
        )

        @functools.wraps(method)
        def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            try:
                bound = own.bind(self, *args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{method.__name__}() {error}") from None
            given = dict(list(bound.arguments.items())[1:])
            return method(self, **{name: value for name, value in defaults.items() if name not in given}, **given)

        call.__signature__ = own  # type: ignore[attr-defined]
        return call

    return decorate
