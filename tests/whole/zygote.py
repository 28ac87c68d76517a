"""
A process that has everything imported and runs nothing, so that a life is one fork and costs no start-up.

It reads one JSON object a line from its standard input: ``{"id": 1, "life": {...}}`` begins a life, ``{"id": 1,
"signal": 9}`` sends it a signal; and writes ``{"id": 1, "status": ...}`` when one has ended: an exit status, or
minus the signal. It sends signals only to processes that it has not waited for yet, so no other process can be
meant. When its input ends, so does it, and every life with it.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from whole import crash_life


class Living(NamedTuple):
    """A life under way: its number, its process, and the end of a pipe that closes when it dies."""

    number: int
    pid: int
    pulse: int


def main() -> None:
    """Fork until the input ends."""
    living: dict[int, Living] = {}
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ, None)
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    bury(living.pop(key.data.number), selector)
                    continue
                if not (read := os.read(0, 2**16)):
                    for life in living.values():
                        os.kill(life.pid, signal.SIGKILL)
                        os.waitpid(life.pid, 0)
                    return
                *lines, pending = (pending + read).split(b"\n")
                for line in lines:
                    obey(json.loads(line), living, selector)


def obey(order: dict[str, Any], living: dict[int, Living], selector: selectors.BaseSelector) -> None:
    """Begin a life, or send one a signal."""
    number = order["id"]
    if "life" in order:
        living[number] = life = begin(number, order["life"], [other.pulse for other in living.values()])
        selector.register(life.pulse, selectors.EVENT_READ, life)
    elif number in living:
        os.kill(living[number].pid, order["signal"])


def begin(number: int, life: dict[str, Any], others: list[int]) -> Living:
    """Fork a life."""
    pulse, heart = os.pipe()
    pid = os.fork()
    if pid:
        os.close(heart)
        return Living(number, pid, pulse)
    status = crash_life.BROKEN
    try:
        for handle in (pulse, *others):
            os.close(handle)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        log = os.open(life["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        status = crash_life.live(life)
    except BaseException:  # noqa: BLE001 - a life must not go on as a zygote
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(status)


def bury(life: Living, selector: selectors.BaseSelector) -> None:
    """Tell how a life ended."""
    selector.unregister(life.pulse)
    os.close(life.pulse)
    status = os.waitstatus_to_exitcode(os.waitpid(life.pid, 0)[1])
    os.write(1, json.dumps({"id": life.number, "status": status}).encode() + b"\n")


if __name__ == "__main__":
    crash_life.warm_up()
    gc.collect()
    gc.freeze()
    assert threading.active_count() == 1
    # Arrow's allocator keeps a thread that bears a fork; Python cannot know that, and would warn
    warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
    os.write(1, b'{"ready": true}\n')
    main()
