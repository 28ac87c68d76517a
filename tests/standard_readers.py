"""Shards and Parquet files, read as their users read them: by tarfile, tar, a reader of WebDataset, and pyarrow."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from pathlib import Path

import pyarrow.parquet as pq

SKIPPED = re.compile(r"__[^/]*__($|/)")
"""Members that webdataset passes over (its ``skip_meta``)."""


def every_file_opens(folder: Path, *, with_tar: bool = True) -> int:
    """
    Check that each file under ``shards/`` and ``parquet/`` can be read throughout; return how many cutouts it has.

    Parameters
    ----------
    folder
        A harvest folder.
    with_tar
        Whether to ask the program ``tar``, too: some milliseconds a shard.
    """
    tars = [*folder.glob("shards/*.tar"), *folder.glob("parquet/.journal/*.tar")]
    n = 0
    for path in sorted(tars):
        n += len(samples(path))
        if with_tar:
            listed = subprocess.run(["tar", "-tf", path], capture_output=True, text=True, check=False)
            assert (0, "") == (listed.returncode, listed.stderr), (path, listed.stderr)
    for path in sorted(folder.glob("parquet/*/*.parquet")):
        table = pq.read_table(path)
        table.validate(full=True)
        n += len(table) - table["uri"].null_count
    return n


def samples(path: Path) -> dict[str, dict[str, bytes]]:
    """Return the samples of a shard as WebDataset has them, by key; each has its cutout and its note, once."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as tar:
        seekable = [(member.name, member.size) for member in tar]
    streamed = []
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r|*") as tar:
        for member in tar:
            streamed.append((member.name, member.size))
            if not member.isreg() or SKIPPED.match(member.name):
                continue
            folder, slash, name = member.name.rpartition("/")
            key, _, ending = name.partition(".")
            content = tar.extractfile(member)
            assert content is not None
            sample = found.setdefault(f"{folder}{slash}{key}", {})
            assert ending not in sample, f"{member.name} twice in {path}"
            sample[ending] = content.read()
    assert seekable == streamed
    for key, sample in found.items():
        assert 2 == len(sample), (path, key, sorted(sample))
        assert "uri" in json.loads(sample["json"])
    return found
