"""
Files of parts that a merge moves where the file system has no hard links.

Each move is noted before it is made, and the note is what forbids going on with the parts. A merge that was killed
first moves back what is not claimed yet, one that begins anew all of them.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from psfharvest.filesystem import portable
from psfharvest.filesystem.open_file import OpenFile
from psfharvest.store.manifest.place import MOVED_NAME, PARTS_NAME


@dataclass(frozen=True, slots=True)
class Moves:
    """The moves of one merge into `folder`, of files of its parts."""

    folder: Path

    @property
    def _note(self) -> Path:
        return self.folder / PARTS_NAME / MOVED_NAME

    def move(self, path: Path, final: Path) -> bool:
        """Move a file after noting it; True."""
        line = json.dumps([self._relative(path), self._relative(final)]) + "\n"
        with OpenFile(self._note, os.O_RDWR | os.O_CREAT | os.O_APPEND) as note:
            note.write(line.encode())
            note.sync()
        portable.sync_folder(self._note.parent)
        path.rename(final)
        return True

    def undo(self, first: int) -> None:
        """Move files back whose new number is `first` or more: nothing is claimed in them yet."""
        for before, after in reversed(self._noted()):
            old, new = self.folder / before, self.folder / after
            if int(new.stem) >= first and not old.exists() and new.exists():
                new.rename(old)
        if first:
            self._cut_torn_line()
        else:
            self._note.unlink(missing_ok=True)

    def _cut_torn_line(self) -> None:
        """Remove a line that a full disk cut off: the next one would continue it."""
        with suppress(FileNotFoundError), OpenFile(self._note, os.O_RDWR) as note:
            note.truncate(note.read(note.size(), 0).rfind(b"\n") + 1)

    def _noted(self) -> list[tuple[str, str]]:
        try:
            lines = self._note.read_bytes().split(b"\n")[:-1]  # for a line without an end nothing was moved yet
        except FileNotFoundError:
            return []
        return [(before, after) for before, after in map(json.loads, lines)]

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()
