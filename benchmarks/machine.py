"""
This machine and what is installed on it: cores to pin to, and the versions that a table must name.

The law: a server and its client never share a core where there are two.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple


class Cores(NamedTuple):
    """Where the server and the client run; None is anywhere."""

    server: int | None
    client: int | None


def cores() -> Cores:
    """Return two different cores, or none to pin to where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[-1]) if len(usable) > 1 else Cores(None, None)


def describe() -> dict[str, str | int]:
    """Return what is worth knowing of this machine, for the report."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": f"{platform.python_version()} ({_build()})",
    }


def _build() -> str:
    """Return where this interpreter comes from: built without optimisation it takes a tenth more CPU a cutout."""
    if sys.base_prefix == "/usr":
        return "the system's own"
    is_optimised = "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS"))
    return f"built {'with' if is_optimised else 'without'} --enable-optimizations"


def first_line(*command: str) -> str | None:
    """
    Return the first line that a command prints, such as its version.

    Parameters
    ----------
    *command
        Program and arguments.

    Returns
    -------
    str or None
        None where there is no such program, or it fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter((done.stdout or done.stderr).splitlines()), "")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
