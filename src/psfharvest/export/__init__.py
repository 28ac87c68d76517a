"""
Harvests as one file or folder for other programs: Parquet, Zarr, NPZ, FITS or HDF5 by the ending.

Pixels and metadata go together. Only what is done is exported, in the order of asking, sizes apart. A file grows
under another name and is renamed once it is whole. Memory does not grow with the number of cutouts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from psfharvest.core.errors import BadInput
from psfharvest.export.content import Content
from psfharvest.filesystem import extras
from psfharvest.filesystem.atomic import require_ending, require_parent, written_whole
from psfharvest.store.read.harvest import Harvest

NEEDS = {
    ".parquet": ("pyarrow", "parquet"), ".zarr": ("zarr", "zarr"), ".npz": ("numpy", ""),
    ".fits": ("astropy", ""), ".h5": ("h5py", "hdf5"),
}  # fmt: skip
"""Endings, with the module that each needs, and the extra that brings it."""


def export(
    harvest: Harvest | str | Path | Sequence[Harvest | str | Path],
    out: str | Path,
    *,
    sizes: Sequence[int] = (),
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """
    Write the done cutouts of a harvest for other programs.

    Parameters
    ----------
    harvest
        A `Harvest`, such as a `select` gives, or a harvest folder; or several, one after another.
    out
        ``.parquet``: one row a cutout, pixels a fixed-size list in column ``image`` (``image_51``, ``image_101``
        where there are several sizes). ``.zarr``: a Zarr v3 group, sharded; ``51/images`` of shape
        ``(n, 51, 51)`` beside ``51/id`` and the other columns. ``.npz``: arrays ``images``, ``id``, … (or
        ``51/images``, … where there are several sizes). ``.fits``: for each size a cube ``IMAGES_51`` and a
        binary table ``STARS_51``. ``.h5``: a group a size as in Zarr; of one size also at the root. All have the
        harvests' provenance. A column whose name is in use (``images``, ``header``, ``ra`` in Parquet) has ``_``
        behind it. What stood there before is replaced.
    sizes
        Only cutouts of these sides, in pixels; none is all.
    progress
        Called with the number of cutouts written and of all, now and then.

    Returns
    -------
    dict
        ``file``, ``cutouts`` and ``sizes`` (side to number of cutouts), ``left_out`` (files that are no images).

    Raises
    ------
    BadInput
        When the ending is unknown, an extra is missing, or there is nothing to export; nothing was changed.
    SinkError
        When it cannot be written.
    LocalError
        When a cutout is not where the manifest says.
    """
    path = Path(out)
    check(path)
    given = [harvest] if isinstance(harvest, (Harvest, str, Path)) else list(harvest)
    sources = [one if isinstance(one, Harvest) else Harvest(one) for one in given]
    is_parquet = path.suffix.lower() == ".parquet"
    content = Content(sources, sizes, progress or (lambda _done, _total: None), with_sky=is_parquet)
    with written_whole(path) as partial:
        _writer(path)(content, partial)
    return {
        "file": str(path),
        "cutouts": sum(content.counts.values()),
        "sizes": {str(size): n for size, n in content.counts.items()},
        "left_out": content.n_left_out,
    }


def check(out: Path) -> None:
    """
    Refuse what cannot be written.

    Raises
    ------
    BadInput
        When the ending is unknown, its extra is missing, or the place is not for it.
    """
    require_ending(out, NEEDS)
    module, extra = NEEDS[out.suffix.lower()]
    extras.require(f"a {out.suffix} export", extra, module)
    require_parent(out)
    is_ours = (out / "zarr.json").is_file() if out.suffix.lower() == ".zarr" else out.is_file()
    if out.exists() and not is_ours:
        raise BadInput(f"{out} is there and is something else; choose another name")


def _writer(out: Path) -> Callable[[Content, Path], None]:
    if out.suffix.lower() == ".parquet":
        from psfharvest.export.parquet_file import write as write_parquet  # noqa: PLC0415 - needs an extra

        return write_parquet
    if out.suffix.lower() == ".zarr":
        from psfharvest.export.zarr_folder import write as write_zarr  # noqa: PLC0415 - needs an extra

        return write_zarr
    if out.suffix.lower() == ".fits":
        from psfharvest.export.fits_file import write as write_fits  # noqa: PLC0415 - heavy

        return write_fits
    if out.suffix.lower() == ".h5":
        from psfharvest.export.hdf5_file import write as write_hdf5  # noqa: PLC0415 - needs an extra

        return write_hdf5
    from psfharvest.export.npz_file import write as write_npz  # noqa: PLC0415 - heavy

    return write_npz
