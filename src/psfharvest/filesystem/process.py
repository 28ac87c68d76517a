"""Identity of a process: distinct also from one that had or will have its number."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def identity() -> dict[str, str | int]:
    """Return this process: number, host, since when it is at work, and what tells it from others of that number."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "started": start_of(os.getpid()),
        "system": system(),
    }


def system() -> str:
    """Return what tells this start of the system, and what sees the same process numbers; nothing where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def start_of(pid: int) -> str:
    """Return when a process began, as the system counts it; nothing where it does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return ""
    return fields[19] if len(fields) > 19 else ""


def is_alive(pid: int) -> bool:
    """Return whether a process of this number exists here."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def has_ended(who: Mapping[str, Any]) -> bool | None:
    """Return whether the process of an `identity` is gone; None where that cannot be known from here."""
    if who["host"] != socket.gethostname():
        return None
    if who.get("system", system()) != system():
        # another start of this machine, or a container that has its name: only the first is known to be over
        same_boot = str(who.get("system")).partition(" ")[0] == system().partition(" ")[0]
        return None if same_boot else True
    return not is_alive(int(who["pid"])) or str(who.get("started", "")) != start_of(int(who["pid"]))


def words(who: Mapping[str, Any]) -> str:
    """Return a process as messages name it."""
    return f"process {who['pid']} on {who['host']} since {who['since']}"
