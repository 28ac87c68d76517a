"""Names of columns in exports: those of the catalogue, but where a format needs the name for something else."""

from __future__ import annotations

from collections.abc import Collection, Iterable

MASKS = ("_mask", ".mask")
"""Endings of the arrays that say where a column is null."""


def exported_names(names: Iterable[str], taken: Collection[str]) -> dict[str, str]:
    """
    Return for each column the name that it has in an export.

    Returns
    -------
    dict
        The column's own name where that can be; else with ``_`` in place of what separates groups, or behind it.

    Examples
    --------
    >>> exported_names(["id", "images", "a/b", "id_mask"], {"images"})
    {'id': 'id', 'images': 'images_', 'a/b': 'a_b', 'id_mask': 'id_mask_'}
    """
    given = list(names)
    masks = {name + ending for name in given for ending in MASKS}
    found = {name: name for name in given if name not in taken and name not in masks and _is_plain(name)}
    used = {*found.values(), *taken, *masks}
    for name in given:
        if name not in found:
            free = "".join("_" if letter in "/\0" else letter for letter in name)
            while free in used or not _is_plain(free):
                free += "_"
            found[name] = free
            used |= {free, *(free + ending for ending in MASKS)}
    return {name: found[name] for name in given}


def _is_plain(name: str) -> bool:
    """Return whether a name is one in every format: no path, and no name of Zarr's own files."""
    return bool(name.strip(".")) and name != "zarr.json" and not {"/", "\0"} & {*name}
