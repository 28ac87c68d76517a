"""
The server that all clients of a run share: nginx where it is installed, else the simulator in static mode.

The law: it listens on loopback only, and answers any dataURI with the same whole 51x51 cutout, as fast as it can.
The report says which server it was, and how busy: where its core is full, the server was measured and no client.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import NamedTuple

from benchmarks import asks, machine
from psfharvest.simulator import Settings, Simulator

HOST = "127.0.0.1"
CARD_BYTES = 80
HEADER_BYTES = 2 * 2880
PIXEL_BYTES = 4 * 2880
SIMULATOR = "the simulator"
_PATIENCE_S = 10.0
_PR_SET_PDEATHSIG = 1
_ECHO = "ngx_http_echo_module.so"

_CONFIG = Template("""
$modules
daemon off;
master_process off;
pid $folder/pid;
error_log $folder/error.log;
events { worker_connections 4096; }
http {
    access_log off;
    log_format arrival '$$msec';
    client_body_temp_path $folder/body;
    proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi;
    scgi_temp_path $folder/scgi;
    default_type application/octet-stream;
    sendfile on;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    open_file_cache max=10 inactive=1h;
    $trouble
    server {
        listen $host:$port backlog=4096 $tls;
        $certificate
        root $folder;
        $log
        location / { $answer }
        location @cutout { rewrite ^ /cutout.fits break; }
    }
}
""")


_TROUBLE = """
    split_clients $request_id $trouble {
        0.4% error; 0.2% page; 0.2% cut; 0.1% wait; 0.1% dropped; * "";
    }
    map $request_uri $is_missing { "~777_F606W" 1; default 0; }
"""
_TROUBLED_ANSWER = """
            if ($is_missing) { return 404; }
            if ($trouble = error) { return 500; }
            if ($trouble = wait) { add_header Retry-After 1 always; return 503; }
            if ($trouble = dropped) { return 444; }
            if ($trouble = page) { rewrite ^ /page.html break; }
            if ($trouble = cut) { rewrite ^ /cut.fits break; }
            rewrite ^ /cutout.fits break;
"""


class Server(NamedTuple):
    """A running server."""

    name: str
    url: str
    """Its base URL."""
    cpu_s: Callable[[], float]
    """What it has used so far."""
    ca: Path | None = None
    """The certificate to trust, for https."""
    arrivals: Path | None = None
    """A log with the time of each request, in seconds since 1970, if it was asked for."""


def cutout() -> bytes:
    """
    Return the one body that nginx serves: two blocks of header and four of pixels, 17,280 bytes.

    It is the simulator's, which names no exposure and so answers all dataURIs, less what the second block of its
    header does not hold.
    """
    body = Simulator(Settings(static=True, sources=0)).render(next(asks.uris(1)))
    cards, pixels = body[: HEADER_BYTES - CARD_BYTES], body[-PIXEL_BYTES:]
    return cards + b"END".ljust(CARD_BYTES) + pixels


@contextmanager
def static(core: int | None, *, tls: bool = False, latency_s: float = 0.0, logs: bool = False) -> Iterator[Server]:
    """
    Serve one cutout for every dataURI.

    Parameters
    ----------
    core
        Where to run.
    tls
        Whether to speak https, with a certificate made for this run.
    latency_s
        Delay before every answer.
    logs
        Whether to log the time of each request.

    Yields
    ------
    Server
    """
    with tempfile.TemporaryDirectory(prefix="psfharvest-server-") as name:
        folder = Path(name)
        certificate = _certificate(folder) if tls else None
        if not _has_nginx(delays=latency_s > 0):
            with simulated(core, latency_s=latency_s, certificate=certificate) as server:
                yield server
            return
        port = _free_port()
        (folder / "cutout.fits").write_bytes(cutout())
        (folder / "nginx.conf").write_text(_config(folder, port, certificate, latency_s, logs=logs))
        with _nginx(folder, port, core) as process:
            url = f"{'https' if tls else 'http'}://{HOST}:{port}"
            title = machine.first_line("nginx", "-v") or "nginx"
            title = title.rpartition(" ")[2] + (" + echo_sleep" if latency_s else "")
            ca = certificate[0] if certificate else None
            yield Server(title, url, lambda: _cpu_s(process.pid), ca, folder / "arrivals.log" if logs else None)


@contextmanager
def troubled(core: int | None) -> Iterator[Server]:
    """
    Serve as `static` does, but one answer in a hundred is bad, at random, and one source in a thousand is missing.

    Bad is: 500, an error page with 200, half a file, 503 with Retry-After, or a connection that closes without an
    answer. Missing are the sources whose number ends in 777.

    Parameters
    ----------
    core
        Where to run.

    Yields
    ------
    Server

    Raises
    ------
    RuntimeError
        Where nginx is not installed.
    """
    if not _has_nginx(delays=False):
        raise RuntimeError("nginx is not installed, and the simulator has no random trouble in static mode")
    with tempfile.TemporaryDirectory(prefix="psfharvest-server-") as name:
        folder, port = Path(name), _free_port()
        body = cutout()
        (folder / "cutout.fits").write_bytes(body)
        (folder / "cut.fits").write_bytes(body[: len(body) // 2])
        (folder / "page.html").write_text("<html><body>Something went wrong. Please try again.</body></html>")
        (folder / "nginx.conf").write_text(_config(folder, port, None, 0.0, logs=True, is_troubled=True))
        with _nginx(folder, port, core) as process:
            title = (machine.first_line("nginx", "-v") or "nginx").rpartition(" ")[2]
            url = f"http://{HOST}:{port}"
            yield Server(title, url, lambda: _cpu_s(process.pid), None, folder / "arrivals.log")


@contextmanager
def simulated(
    core: int | None,
    *,
    latency_s: float = 0.0,
    certificate: tuple[Path, Path] | None = None,
    sources: int = 0,
) -> Iterator[Server]:
    """
    Serve from the simulator in static mode, in a thread of this process.

    Parameters
    ----------
    core
        Where to run.
    latency_s
        Delay before every answer.
    certificate
        Certificate and key, for https.
    sources
        Synthetic sources to be queried.

    Yields
    ------
    Server
    """
    settings = Settings(static=True, sources=sources, latency_s=latency_s, record_size=1)
    tls = (str(certificate[0]), str(certificate[1])) if certificate else None
    with pinned(core), Simulator(settings, tls=tls) as simulator:
        yield Server(SIMULATOR, simulator.url, time.process_time, certificate[0] if certificate else None)


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """
    Keep this process, and threads that it starts meanwhile, on one core.

    Parameters
    ----------
    core
        Which; None is anywhere.
    """
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _nginx(folder: Path, port: int, core: int | None) -> Iterator[subprocess.Popen[bytes]]:
    with pinned(core):
        command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        process = subprocess.Popen(command, preexec_fn=_die_with_parent)  # noqa: PLW1509 - it takes no lock
    try:
        _await(port, process)
        yield process
    finally:
        process.terminate()
        process.wait(_PATIENCE_S)


def _die_with_parent() -> None:
    """Ask Linux to end this process when the one that started it is killed: nobody else would."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _config(
    folder: Path,
    port: int,
    certificate: tuple[Path, Path] | None,
    latency_s: float,
    *,
    logs: bool,
    is_troubled: bool = False,
) -> str:
    pem, key = certificate or (None, None)
    answer = "rewrite ^ /cutout.fits break;"
    if is_troubled:
        answer = _TROUBLED_ANSWER
    elif latency_s:
        answer = f"echo_sleep {latency_s}; echo_exec @cutout;"
    return _CONFIG.substitute(
        modules=f"load_module {_echo_module()};" if latency_s else "",
        folder=folder,
        host=HOST,
        port=port,
        tls="ssl" if certificate else "",
        certificate=f"ssl_certificate {pem}; ssl_certificate_key {key};" if certificate else "",
        trouble=_TROUBLE if is_troubled else "",
        log=f"access_log {folder}/arrivals.log arrival;" if logs else "",
        answer=answer,
    )


def _has_nginx(*, delays: bool) -> bool:
    return shutil.which("nginx") is not None and (not delays or _echo_module() is not None)


def _echo_module() -> Path | None:
    """Return the module that lets nginx wait, where it is installed."""
    done = subprocess.run(["nginx", "-V"], capture_output=True, text=True, check=True)
    folders = [w.partition("=")[2] for w in done.stderr.split() if w.startswith("--modules-path=")]
    return next((path for folder in folders if (path := Path(folder, _ECHO)).exists()), None)


def _certificate(folder: Path) -> tuple[Path, Path]:
    pem, key = folder / "cert.pem", folder / "key.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=psfharvest benchmark", "-addext", f"subjectAltName=IP:{HOST},DNS:localhost"]
    command = ["openssl", "req", "-x509", *curve, *names, "-keyout", str(key), "-out", str(pem)]
    subprocess.run(command, check=True, capture_output=True)
    return pem, key


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError("nginx did not start")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
