"""A process stopped for longer than its deadlines: what came meanwhile is served before it is judged late."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest
from wire_server import Pause, WireServer, reply

STOP_S = 3.0
BODY = b"x" * 40_000

CODE = """
    import sys
    import anyio
    from psfharvest.archive.wires.base import Request
    from psfharvest.archive.wires.curl import CurlWire
    from psfharvest.archive.wires.httpx_wire import HttpxWire

    async def main():
        wire = {"curl": CurlWire, "httpx": HttpxWire}[sys.argv[1]]()
        answers = []

        async def ask(path):
            request = Request(sys.argv[2] + path, timeout_s=1.0, total_timeout_s=2.5, connect_timeout_s=1.0)
            answers.append(await wire.exchange(request))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for path in ("/late", "/late", "/late", "/trickle"):
                    group.start_soon(ask, path)
        await wire.aclose()
        print([(answer.status, len(answer.body), answer.failure) for answer in answers])

    anyio.run(main, backend=sys.argv[3])
"""


@pytest.fixture
def server() -> Iterator[WireServer]:
    """Answers while its client is stopped."""
    head, part = b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n", BODY[:20_000]
    script = {"/late": (Pause(0.6), reply(BODY)), "/trickle": (head + part, Pause(0.6), part)}
    with WireServer(script) as found:
        yield found


@pytest.mark.sample(1)
@pytest.mark.parametrize("wire", ["curl", "httpx"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_answers_that_came_while_it_was_stopped_count(server: WireServer, wire: str, backend: str) -> None:
    """Stopped in the middle of requests for longer than every deadline, it reads what lies in the sockets."""
    words = [sys.executable, "-c", textwrap.dedent(CODE), wire, server.url(""), backend]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = threading.Event()
        for _ in range(600):
            if len(server.seen) == 4:
                break
            deadline.wait(0.05)
        os.kill(child.pid, signal.SIGSTOP)
        deadline.wait(STOP_S)
        os.kill(child.pid, signal.SIGCONT)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()

    assert (out.strip(), err) == (str([(200, len(BODY), None)] * 4), "")
