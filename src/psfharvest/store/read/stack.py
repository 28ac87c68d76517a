"""Many cutouts as one array: read in the order of asking, written in stretches, memory-mapped where it is large."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from psfharvest.core.errors import BadInput, LocalError, SinkError
from psfharvest.core.fits import datauri, pixels

if TYPE_CHECKING:
    from psfharvest.store.read.harvest import Harvest

IN_MEMORY_BYTES = 512 * 10**6
AT_ONCE = 512


def stack(
    harvest: Harvest, size: int, out: str | Path | None = None, *, in_memory_bytes: int = IN_MEMORY_BYTES
) -> NDArray[np.float32]:
    """Do what `Harvest.stack` says; what is larger than `in_memory_bytes` is memory-mapped."""
    numbers = harvest.done_numbers(size)
    shape = (len(numbers), size, size)
    if out is not None:
        return _into_file(harvest, size, shape, Path(out))
    if 4 * len(numbers) * size * size <= in_memory_bytes:
        array = np.empty(shape, np.float32)
        start = 0
        for piece in stretches(harvest, size):
            array[start : start + len(piece)] = piece
            start += len(piece)
        return array
    with tempfile.TemporaryFile(prefix="psfharvest-") as file:
        _write(harvest, size, file, file.name)
        return np.memmap(file, np.float32, "r+", shape=shape)


def stretches(harvest: Harvest, size: int) -> Iterator[NDArray[np.float32]]:
    """
    Yield the pixels of all done cutouts of one size, at most `AT_ONCE` together, shape ``(n, size, size)``.

    Raises
    ------
    LocalError
        When a cutout is not where the manifest says, or is not of that size.
    """
    for numbers in harvest.done_numbers(size).pieces(AT_ONCE):
        piece = np.empty((len(numbers), size, size), np.float32)
        n = 0
        for uri, raw in harvest.bodies(numbers):
            image = pixels.image(raw, datauri.parts_of(uri))
            if image is None or image.shape != (size, size):
                raise LocalError(
                    f"{uri}: no image of {size} x {size} px is stored; run: psfharvest verify --repair"
                )
            piece[n] = image
            n += 1
        if n < len(numbers):
            raise LocalError(f"{harvest.folder}: a cutout was taken back meanwhile; make a new Harvest")
        yield piece


def _into_file(harvest: Harvest, size: int, shape: tuple[int, int, int], out: Path) -> NDArray[np.float32]:
    if out.suffix != ".npy":
        raise BadInput(f"{out}: an array is written to a .npy file; call it {out.with_suffix('.npy').name}")
    if not out.absolute().parent.is_dir():
        raise BadInput(f"{out}: the folder {out.parent} does not exist; make it first")
    partial = out.with_name(f".{os.getpid()}.{out.name}")
    try:
        with partial.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "<f4" if np.little_endian else ">f4", "fortran_order": False, "shape": shape}
            )
            _write(harvest, size, file, str(out))
        partial.replace(out)
    except OSError as error:
        raise SinkError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    mapped: NDArray[np.float32] = np.load(out, mmap_mode="r+")
    return mapped


def _write(harvest: Harvest, size: int, file: IO[bytes], name: str) -> None:
    for piece in stretches(harvest, size):
        try:
            file.write(piece.data)
        except OSError as error:
            raise SinkError(f"cannot write {name}: {error.strerror or error}") from error
    try:
        file.flush()
    except OSError as error:
        raise SinkError(f"cannot write {name}: {error.strerror or error}") from error
