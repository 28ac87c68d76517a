"""
Run one command on one core, and write what it took: a launcher, itself too small to be seen in the figures.

Usage: ``python -I -S launch.py USAGE.json CORE TIMEOUT_S OUTPUT COMMAND…`` (CORE may be ``-``). Linux counts the
memory that a process had before ``exec`` as its own, so clients must not be forked from a large program; the floor
is that of this one, some 9 MB. Peak memory is that of the largest process, or the sum over all processes of the
command where that, looked at ten times a second, was larger.
"""

import json
import os
import select
import signal
import sys
import time

LOOK_EVERY_S = 0.1


def main() -> None:
    """Run the command and write its usage."""
    usage_path, core, timeout_s, output, *command = sys.argv[1:]
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        become(command, core, output)
    peak, is_late = watch(pid, start + float(timeout_s))
    _, status, usage = os.wait4(pid, 0)
    wall_s = time.monotonic() - start
    found = {
        "wall_s": wall_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": max(peak, usage.ru_maxrss * 1024),
        "exit_status": os.waitstatus_to_exitcode(status),
        "is_late": is_late,
    }
    with open(usage_path, "w") as file:
        json.dump(found, file)


def become(command: list[str], core: str, output: str) -> None:
    """Turn this process into the command."""
    try:
        os.setpgid(0, 0)
        if core != "-":
            os.sched_setaffinity(0, {int(core)})
        nothing = os.open(os.devnull, os.O_RDONLY)
        log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        errors = os.open(output + ".err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for source, target in ((nothing, 0), (log, 1), (errors, 2)):
            os.dup2(source, target)
        os.execvp(command[0], command)
    finally:
        os._exit(127)


def watch(pid: int, deadline: float) -> tuple[int, bool]:
    """Wait for the end; return the largest sum of resident memory seen, and whether time ran out."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.killpg(pid, signal.SIGKILL))
    poll = select.poll()
    poll.register(os.pidfd_open(pid), select.POLLIN)
    peak = 0
    while not poll.poll(LOOK_EVERY_S * 1000):
        peak = max(peak, resident(pid))
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            return peak, True
    return peak, False


def resident(pid: int) -> int:
    """Return the memory of a process and all below it."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            total = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            children = file.read().split()
    except (OSError, IndexError):
        return 0
    return total + sum(resident(int(child)) for child in children)


if __name__ == "__main__":
    main()
