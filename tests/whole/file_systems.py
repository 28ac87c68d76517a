"""
Harvests on real file systems: killed in the middle, gone on with, verified.

``python tests/whole/file_systems.py`` (as root) mounts each file system that this machine can mount, harvests into
it with every sink, kills the harvester once a third was asked for, runs the same command again, and verifies. A row
says what came; what cannot be mounted is named with the reason. In every run all cutouts are done, none twice.

Block file systems lie in sparse images behind a loop device; `sshfs` reaches an SFTP server of OpenSSH on loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from psfharvest.simulator import Settings, Simulator

N = 600
SINKS = ("files", "shards", "parquet")
LATENCY_S = 0.2
IMAGE_BYTES = 400 * 2**20
DEADLINE_S = 300.0
SFTP_SERVER = "/usr/lib/openssh/sftp-server"
SFTP_PORT = 8922
MAKERS: dict[str, tuple[list[str], list[str]]] = {
    "ext4": (["mkfs.ext4", "-q"], ["mount", "-o", "loop"]),
    "btrfs": (["mkfs.btrfs", "-q"], ["mount", "-o", "loop"]),
    "xfs": (["mkfs.xfs", "-q"], ["mount", "-o", "loop"]),
    "vfat": (["mkfs.vfat"], ["mount", "-o", "loop"]),
    "exfat": (["mkfs.exfat"], ["mount", "-o", "loop", "-t", "exfat-fuse"]),
    "ntfs": (["mkfs.ntfs", "-q", "-F", "-Q"], ["ntfs-3g", "-o", "windows_names"]),
    "ext4 by FUSE": (["mkfs.ext4", "-q"], ["fuse2fs", "-o", "rw"]),
}
"""How an image is made, and how it is mounted."""


class CannotMount(Exception):
    """Raised, with the reason, where this machine lacks a file system."""


def run(*words: str) -> None:
    """Run a command of the system; raise `CannotMount` where it is absent or fails."""
    try:
        subprocess.run(words, check=True, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        raise CannotMount(f"{words[0]} is not installed") from None
    except subprocess.CalledProcessError as error:
        raise CannotMount(" ".join(error.stderr.split())[:100] or f"{words[0]} failed") from None


@contextmanager
def mounted(name: str, scratch: Path) -> Iterator[Path]:
    """Mount a file system of this name, and unmount it at the end."""
    at = scratch / "mount"
    at.mkdir()
    with ExitStack() as stack:
        if name in MAKERS:
            make, mount = MAKERS[name]
            image = scratch / "image"
            image.touch()
            os.truncate(image, IMAGE_BYTES)
            run(*make, str(image))
            run(*mount, str(image), str(at))
        elif name == "sshfs":
            (scratch / "root").mkdir()
            listen = f"TCP-LISTEN:{SFTP_PORT},bind=127.0.0.1,reuseaddr,fork"
            if shutil.which("socat") is None or not Path(SFTP_SERVER).exists():
                raise CannotMount("socat or sftp-server is not installed")
            server = subprocess.Popen(["socat", listen, f"EXEC:{SFTP_SERVER}"])
            stack.callback(server.wait)
            stack.callback(server.terminate)
            time.sleep(0.5)
            run("sshfs", "-o", f"directport={SFTP_PORT}", f"127.0.0.1:{scratch / 'root'}", str(at))
        else:
            (scratch / "root").mkdir()
            run("bindfs", str(scratch / "root"), str(at))
        try:
            yield at
        finally:
            subprocess.run(["umount", "--lazy", str(at)], check=False, timeout=60)


def psfharvest(url: str, *words: str) -> tuple[int, dict[str, Any]]:
    """Run the command with ``--json``; return its exit status and account."""
    line = [sys.executable, "-m", "psfharvest", *words, "--json"]
    ran = subprocess.run(
        line,
        check=False,
        env={**os.environ, "PSFHARVEST_ARCHIVE": url},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    return ran.returncode, json.loads(ran.stdout.splitlines()[-1]) if ran.stdout else {"error": ran.stderr[-300:]}


def killed(simulator: Simulator, words: list[str]) -> None:
    """Harvest, and kill it once a third of the cutouts was asked for."""
    line = [sys.executable, "-m", "psfharvest", *words, "--quiet"]
    env = {**os.environ, "PSFHARVEST_ARCHIVE": simulator.url}
    n_before, end = simulator.count("file"), time.monotonic() + DEADLINE_S
    with subprocess.Popen(line, env=env, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and simulator.count("file") < n_before + N // 3 and time.monotonic() < end:
            time.sleep(0.01)
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)


def tried(simulator: Simulator, folder: Path, sink: str) -> str:
    """Return a row for one sink in one folder; raises `AssertionError` where a promise is broken."""
    words = ["harvest", str(folder), "UVIS", "--limit", str(N), "--suffix", "flt", "--sink", sink, "--via", "file"]
    killed(simulator, words)
    _, before = psfharvest(simulator.url, "status", str(folder))
    status, account = psfharvest(simulator.url, *words)
    assert (0, N) == (status, account.get("done")), account
    status, found = psfharvest(simulator.url, "verify", str(folder))
    assert (0, N, 0, 0) == (status, found.get("ok"), found.get("broken"), found.get("strays")), found
    return f"{sink:8} {before.get('done', 0):5} {account['done']:6} {account['requests']:9} {found['ok']:9}"


def say(row: str) -> None:
    """Write a row of the table."""
    sys.stdout.write(f"{row}\n")
    sys.stdout.flush()


def main() -> None:
    """Try each file system."""
    names = [*MAKERS, "sshfs", "bindfs"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"file systems; all: {', '.join(names)}")
    wanted = parser.parse_args().names or names
    say(f"{'file system':13} {'sink':8} {'kept':>5} {'done':>6} {'requests':>9} {'verified':>9}")
    with Simulator(Settings(sources=5 * N, seed=1, latency_s=LATENCY_S)) as simulator:
        for name in wanted:
            scratch = Path(tempfile.mkdtemp(prefix="psfharvest-fs-"))
            try:
                with mounted(name, scratch) as at:
                    for sink in SINKS:
                        say(f"{name:13} {tried(simulator, at / sink, sink)}")
            except CannotMount as error:
                say(f"{name:13} cannot be mounted here: {error}")
            finally:
                shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
