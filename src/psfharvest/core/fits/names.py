"""How a header's name of an exposure may differ from the name that was asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping

NAME_SUFFIX = "name_suffix"
NAME_ASSOCIATION = "name_association"
NAME_LAST_LETTER = "name_last_letter"
LENGTH = 9
"""Characters of a rootname: instrument, programme (3), visit (2), exposure (2), and one for how it was sent."""
OF_VISIT = 6
"""So many of them are those of the exposure's visit; an association of it ends in a digit."""

DIFFERENCES: Mapping[str, str] = {
    NAME_SUFFIX: "the header's name has more around the exposure's, as in ibc302ioq_flt",
    NAME_ASSOCIATION: "the header's name is that of an association of the same visit, as in ibc302010",
    NAME_LAST_LETTER: "the header's name ends in another letter, as in ibc302ioj",
}
"""Differences that say the same of every exposure: where all cutouts show one, it is the archive's way to write."""


def difference(value: str, rootname: str) -> str:
    """Return which of `DIFFERENCES` a header's value has to the rootname asked for; nothing for any other."""
    found, asked = value.casefold(), rootname.casefold()
    if re.search(rf"(?<![a-z0-9]){re.escape(asked)}(?![a-z0-9])", found):
        return NAME_SUFFIX
    if len(asked) != LENGTH or len(found) != LENGTH or not found.isascii() or not found.isalnum():
        return ""
    if found[:-1] == asked[:-1] and found[-1].isalpha():
        return NAME_LAST_LETTER
    if found[:OF_VISIT] == asked[:OF_VISIT] and found[-1].isdigit():
        return NAME_ASSOCIATION
    return ""
