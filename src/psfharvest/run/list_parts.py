"""Cut a list of dataURIs into parts by their file names, so that doubles and equal names meet in one part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from psfharvest.core.catalog.plan import ListPart
from psfharvest.core.fits import keys
from psfharvest.core.model import BadLine
from psfharvest.run import uri_lists
from psfharvest.store.manifest.targets import Target

BUFFER_BYTES = 2**24
"""Of lines that wait to be written, over all parts."""


def cut(path: Path, part_rows: int, place: Callable[[int], Path]) -> list[int]:
    """
    Write the lists of all parts; return how many lines each has.

    Parameters
    ----------
    path
        The whole list.
    part_rows
        Lines of a part, about.
    place
        Returns where the list of a part is written, by its number.
    """
    n_lines = sum(len(batch.asked) for batch in uri_lists.from_file(path, 0, 0))
    n_parts = max(1, -(-n_lines // part_rows))
    for number in range(n_parts):
        place(number).parent.mkdir(parents=True, exist_ok=True)
        place(number).write_bytes(b"")
    sizes = [0] * n_parts
    waiting: dict[int, list[str]] = {}
    n_bytes = 0
    with path.open("rb") as file:
        for n, line in enumerate(uri_lists.lines_of(file), 1):
            its = _part_of(line.text, n, n_parts)
            if its is None:
                continue
            sizes[its] += 1
            waiting.setdefault(its, []).append(f"{n}\t{line.text}\n")
            n_bytes += len(line.text) + 20
            if n_bytes > BUFFER_BYTES:
                _write(waiting, place)
                n_bytes = 0
    _write(waiting, place)
    return sizes


def list_part_target(path: Path, part: ListPart) -> Target:
    """Return the target of one part, whose list is `path`: beside it what it is a part of."""
    spec = {
        "path": str(path.absolute()),
        "part": [part.number, part.number],
        "parent": {
            "kind": "file",
            "identity": part.identity,
            "spec": {"path": part.path, "whole": [0, part.n_parts - 1]},
        },
    }
    return Target("file", json.dumps([part.identity, part.number, part.n_parts]), spec)


def _part_of(text: str, number: int, n_parts: int) -> int | None:
    line = uri_lists.read_line(text, number)
    if line is None:
        return None
    name = f"\n{line.text}" if isinstance(line, BadLine) else keys.key_of(line.uri, line.parts)
    return int.from_bytes(keys.digest(name)[:8], "big") % n_parts


def _write(waiting: dict[int, list[str]], place: Callable[[int], Path]) -> None:
    for number, lines in waiting.items():
        with place(number).open("ab") as file:
            file.write("".join(lines).encode())
    waiting.clear()
