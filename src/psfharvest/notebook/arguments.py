"""
The arguments of the notebook's functions: read as they are given, or refused by their names in the notebook.

A wrong kind is a `TypeError`, as a Python function's own would be; a wrong value is a `BadInput`.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from psfharvest.core.errors import BadInput
from psfharvest.core.fits import datauri
from psfharvest.notebook import bundlefile


def uris(given: Any) -> list[str]:
    """Return the distinct dataURIs of a list in their canonical spelling, in order."""
    return list(dict.fromkeys(datauri.read(text).uri for text in texts("dataURIs", given)))


def texts(name: str, given: Any) -> list[str]:
    """Return the texts of a list that must hold some; any iterable will do."""
    is_listlike = isinstance(given, Iterable) and not isinstance(given, (str, bytes, Mapping))
    require(is_listlike, name, "list", given)
    found = list(given)
    if not found:
        raise BadInput(f"{name} is empty: there is nothing to ask for")
    for text in found:
        require(isinstance(text, str), f"each of {name}", "string", text)
    return [str(text) for text in found]


def target(filename: Any) -> Path:
    """Return where a bundle is to be saved."""
    require(isinstance(filename, (str, os.PathLike)), "filename", "string", filename)
    return bundlefile.target(filename)


def whole(name: str, given: Any, low: int, high: int) -> int:
    """Return a whole number within its bounds, numpy's as well."""
    require(not isinstance(given, bool) and hasattr(given, "__index__"), name, "whole number", given)
    number = operator.index(given)
    if not low <= number <= high:
        raise BadInput(f"{name} is {number}: {low} to {high} is allowed")
    return number


def require(is_right: bool, name: str, kind: str, given: Any) -> None:
    """Refuse an argument of another kind."""
    if not is_right:
        raise TypeError(f"{name} must be a {kind}, not {type(given).__name__}")
