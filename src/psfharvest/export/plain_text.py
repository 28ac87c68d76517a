"""Texts for formats that hold printable ASCII only."""

from __future__ import annotations

import re
from collections.abc import Iterable


def is_plain(texts: Iterable[str]) -> bool:
    """Return whether all texts are printable ASCII."""
    every = "".join(texts)
    return every.isascii() and every.isprintable()


def escaped(text: str) -> str:
    """Return a text as it is or, where it is not printable ASCII, as Python's ``unicode_escape`` writes it."""
    return text if is_plain([text]) else text.encode("unicode_escape").decode("ascii")


def names_of(names: Iterable[str], taken: Iterable[str], mask: str) -> dict[str, str]:
    """
    Return for each name one of letters, digits and ``_``, different from the others and from `taken` in any case.

    Parameters
    ----------
    names
        Those to be written.
    taken
        Names that are in use.
    mask
        Ending of the names that stand for masks, which are kept free, too.
    """
    found: dict[str, str] = {}
    used = {name.lower() for name in taken}
    for name in names:
        free = re.sub(r"\W", "_", name, flags=re.ASCII)
        while free.lower() in used:
            free += "_"
        used |= {free.lower(), (free + mask).lower()}
        found[name] = free
    return found
