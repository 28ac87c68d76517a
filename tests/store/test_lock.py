"""One process a folder."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import pytest

from psfharvest.core.errors import FolderRefused
from psfharvest.store.lock import LOCK_NAME, folder_lock, holder

HOLD = (
    "import sys, time; from pathlib import Path; from psfharvest.store.lock import folder_lock\n"
    "with folder_lock(Path(sys.argv[1])):\n print('held', flush=True)\n time.sleep(600)"
)


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    """The refusal names the holder, and a killed holder holds nothing."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FolderRefused, match=f"process {holder.pid} on "), folder_lock(tmp_path):
            pass
        holder.kill()
    with folder_lock(tmp_path):
        pass


def test_a_look_at_the_lock_is_no_holder(tmp_path: Path) -> None:
    """What holds the lock for an instant only, as a look from another machine does, refuses nobody."""
    with folder_lock(tmp_path):
        pass
    main, looks = threading.get_ident(), (tmp_path / LOCK_NAME).open()
    fcntl.flock(looks, fcntl.LOCK_EX)

    is_over = threading.Event()

    def end_the_look() -> None:
        with looks:
            while not is_over.wait(0.001):
                if "_try_again" in {f.name for f in traceback.extract_stack(sys._current_frames()[main])}:
                    time.sleep(0.01)
                    return

    look = threading.Thread(target=end_the_look)
    look.start()
    try:
        with folder_lock(tmp_path):
            pass
    finally:
        is_over.set()
        look.join()


def test_a_forked_child_keeps_no_lock(tmp_path: Path) -> None:
    """A child that was forked meanwhile and lives on holds nothing, whether its parent let go or died."""
    with folder_lock(tmp_path):
        pid = os.fork()
        if not pid:
            time.sleep(600)
            os._exit(0)
    try:
        with folder_lock(tmp_path):
            pass
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


FORK_AND_DIE = (
    "import os, sys, time; from pathlib import Path; from psfharvest.store.lock import folder_lock\n"
    "with folder_lock(Path(sys.argv[1])):\n"
    "  pid = os.fork()\n"
    "  if not pid: os.close(1); os.close(2); time.sleep(600)\n"
    "  print(pid, flush=True); time.sleep(0.2); os._exit(9)"
)


def test_a_child_of_a_dead_parent_keeps_no_lock(tmp_path: Path) -> None:
    """Nor does it when the parent never came to let go."""
    died = subprocess.run(
        [sys.executable, "-c", FORK_AND_DIE, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    try:
        with folder_lock(tmp_path):
            pass
    finally:
        os.kill(int(died.stdout), signal.SIGKILL)


LOOK = (
    "import sys; from pathlib import Path; from psfharvest.store.lock import holder\n"
    "calls = []\n"
    "sys.addaudithook(lambda name, args: calls.append(name) if name in ('fcntl.flock', 'fcntl.lockf') else None)\n"
    "who = holder(Path(sys.argv[1]))\n"
    "print(who and who['pid'], calls)"
)


def looked(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(folder)], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def test_a_look_leaves_the_lock_alone(tmp_path: Path) -> None:
    """Who holds the folder is told without a try at its lock, which a harvest may be about to take."""
    assert "None []" == looked(tmp_path)
    with folder_lock(tmp_path):
        assert f"{os.getpid()} []" == looked(tmp_path)
        assert os.getpid() == (holder(tmp_path) or {})["pid"]
    assert holder(tmp_path) is None
    assert "None []" == looked(tmp_path)
    with folder_lock(tmp_path):
        assert f"{os.getpid()} []" == looked(tmp_path)


def test_a_killed_holder_is_none(tmp_path: Path) -> None:
    """What it wrote stays; nobody is shown as the holder, also when its number is another process's by now."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as held:
        assert held.stdout is not None
        assert held.stdout.readline() == "held\n"
        assert held.pid == (holder(tmp_path) or {})["pid"]
        held.kill()
    assert holder(tmp_path) is None
    who = json.loads((tmp_path / LOCK_NAME).read_text())
    (tmp_path / LOCK_NAME).write_text(json.dumps({**who, "pid": os.getpid()}))
    assert holder(tmp_path) is None
