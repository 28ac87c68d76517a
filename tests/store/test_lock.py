"""One process a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from psfharvest.core.errors import FolderRefused
from psfharvest.store.lock import folder_lock

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
