"""Without the extra ``dask`` the command says what to install, and needs nothing of it for all else."""

from __future__ import annotations

import re
import subprocess
import sys

WITHOUT = "import sys; sys.modules['distributed'] = None; from psfharvest.__main__ import main; main()"


def test_without_the_extra_the_command_says_what_to_install(tmp_path) -> None:
    """Exit status 2, and no folder is made."""
    words = ["harvest", str(tmp_path / "stars"), "UVIS", "--suffix", "flc", "--dask", "tcp://127.0.0.1:1"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert 2 == done.returncode
    assert re.search("needs distributed: .* install .*distributed", done.stderr), done.stderr
    assert not (tmp_path / "stars").exists()
