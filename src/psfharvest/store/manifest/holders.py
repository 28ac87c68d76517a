"""Which processes hold a lock on a file, where the system tells."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

LOCKS = Path("/proc/locks")


def describe(paths: Iterable[Path]) -> str:
    """Return which processes hold a write lock on one of the files: ``process 12 (python -m x)``, or nothing."""
    own = os.getpid()
    words = []
    for pid in sorted(_holders(list(paths))):
        program = _program(pid)
        words.append(f"process {pid}{f' ({program})' if program else ''}{', this one' if pid == own else ''}")
    return " and ".join(words)


def _holders(paths: list[Path]) -> set[int]:
    files: dict[int, Path] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            files[path.stat().st_ino] = path
    found: set[int] = set()
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        # 1: POSIX  ADVISORY  WRITE 1234 08:01:5678 0 EOF; a waiting one has "->" behind its number
        words = [word for word in line.split() if word != "->"]
        if len(words) < 6 or words[3] != "WRITE" or not words[4].isdigit():
            continue
        inode = words[5].rpartition(":")[2]
        held = files.get(int(inode)) if inode.isdigit() else None
        if held is not None and "->" not in line and int(words[4]) > 0 and _has_open(int(words[4]), held):
            found.add(int(words[4]))
    return found


def _has_open(pid: int, path: Path) -> bool:
    """Return False when the process surely has another file open: inodes are unique on one device only."""
    try:
        return any(entry.samefile(path) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.exists())
    except OSError:  # somebody else's process
        return True


def _program(pid: int) -> str:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        text = " ".join(word for word in words if word)
        return text if len(text) <= 80 else f"{text[:77]}..."
    return ""
