"""
Single cutouts out of Parquet, byte for byte as they came.

What is not in its file yet is in the journal; a location says the same in both.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psfharvest.core.fits import pixels
from psfharvest.filesystem.open_file import OpenFile
from psfharvest.store.sinks import arrow
from psfharvest.store.sinks.parquet_journal import FOLDER, JournalEntry, journal_path, walk

if TYPE_CHECKING:
    import pyarrow as pa

GROUPS_KEPT = 6
"""Row groups a reader keeps, of neighbouring rows and each size: the order of asking leads back and forth."""


class ParquetReader:
    """Read single cutouts back, from files and from the journal that has not become files yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Any] = {}
        self._groups: dict[tuple[str, int], Any] = {}
        self._journal: tuple[int, list[JournalEntry]] | None = None

    def read(self, path: str, row: int, size_bytes: int = 0) -> bytes:
        """
        Return the bytes of one row, just as the archive sent them.

        Raises
        ------
        OSError
            When file or row are not there, or cannot be read.
        """
        del size_bytes  # a row has a size of its own
        for _ in range(2):  # a journal may become a file between two looks
            with contextlib.suppress(FileNotFoundError, IndexError):
                return self._from_file(path, row)
            with contextlib.suppress(FileNotFoundError, IndexError):
                return self._from_journal(path, row)
        raise FileNotFoundError(2, "no such row", f"{path}:{row}")

    def close(self) -> None:
        """Drop what is kept in memory."""
        self._files.clear()
        self._groups.clear()
        self._journal = None

    def _from_file(self, path: str, row: int) -> bytes:
        import pyarrow as pa  # noqa: PLC0415 - an extra, and heavy

        try:
            file = self._files.get(path)
            if file is None:
                file = _keep(self._files, path, arrow.open_parquet(self._folder / path))
            return self._row(path, file, row)
        except IndexError:  # a file that has been made anew since
            self._files.clear()
            self._groups.clear()
            raise
        except (pa.ArrowException, arrow.ParquetDamaged) as error:
            raise OSError(5, str(error), path) from error

    def _row(self, path: str, file: Any, row: int) -> bytes:
        if row >= file.metadata.num_rows:
            raise IndexError(row)
        number, row = divmod(row, arrow.ROWS_A_GROUP)
        group: pa.Table = self._groups.get((path, number))
        if group is None:
            names = [n for n in ("header", "image", "fits") if n in file.schema_arrow.names]
            group = _keep(self._groups, (path, number), file.read_row_group(number, columns=names))
        body = group["fits"][row].as_py()
        if body is None:
            flat = group["image"][row].values.to_numpy()
            body = pixels.put_together(group["header"][row].as_py(), flat)
        return bytes(body)

    def _from_journal(self, path: str, row: int) -> bytes:
        _, name, file_name = path.split("/")
        number = int(file_name.partition(".")[0])
        journal = journal_path(self._folder / FOLDER, number)
        with OpenFile(journal) as file:
            for is_fresh in (False, True):
                if self._journal is None or self._journal[0] != number or is_fresh:
                    self._journal = (number, [e._replace(note={}) for e in walk(journal)])
                entries = [entry for entry in self._journal[1] if entry.name == name]
                if row < len(entries):
                    return file.read(entries[row].size, entries[row].start)
        raise IndexError(row)


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> Any:
    """Keep a value in place of the one kept longest."""
    while len(kept) >= GROUPS_KEPT:
        del kept[next(iter(kept))]
    kept[key] = value
    return value
