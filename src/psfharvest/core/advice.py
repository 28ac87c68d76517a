"""
Advice in a caller's own language: messages are written in Python's words, and turned into the shell's where needed.

Each pair below is one way of saying the same thing; what is in none of them reads the same in both.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable

_OPTIONS = {"retry_states": "retry", "timeout_s": "timeout"}
_NAMES = "extend|sink|layout|via|manifest|limit|uris|retry_states|max_bytes|max_connections|timeout_s|token"


def repair(folder: object) -> str:
    """Return what makes the broken cutouts of a folder pending again."""
    return f"Harvest({str(folder)!r}).verify(repair=True)"


def in_shell(text: str) -> str:
    """Return a message with Python's words replaced by those of the command line."""
    for pattern, replacement in _PAIRS:
        text = pattern.sub(replacement, text)
    return text


def _repair(found: re.Match[str]) -> str:
    return f"psfharvest verify {shlex.quote(str(ast.literal_eval(found[1])))} --repair"


def _option(found: re.Match[str]) -> str:
    name, value = found[1], found[2]
    option = f"--{_OPTIONS.get(name, name).replace('_', '-')}"
    return option if value in ("True", "…") else f"{option} {ast.literal_eval(value)}"


def _accept(found: re.Match[str]) -> str:
    return " ".join(f"--accept {name}" for name in ast.literal_eval(found[1]))


_PAIRS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"Harvest\(('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")\)\.verify\(repair=True\)"), _repair),
    (re.compile(r"Archive\(retry=RetryPolicy\(patience_s=…\)\)"), lambda _: "--patience SECONDS"),
    (re.compile(rf"(?:Limits|Archive)\(({_NAMES})=(…)\)"), _option),
    (re.compile(rf"(?<![\w.'\"(])({_NAMES})=(True|…|\"\w+\")"), _option),
    (re.compile(r"(?<![\w.'\"(])accept=(\[[^\]]*\])"), _accept),
    (
        re.compile(r"\baccept '([^']*)': there is no such quirk"),
        lambda found: f"--accept {found[1]}: no such quirk",
    ),
    (re.compile(r"\bthe same call\b"), lambda _: "the same command"),
)
