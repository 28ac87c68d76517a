"""Names of deviations that a caller may let pass: what ``--accept`` takes, and what each does."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping

from psfharvest.core.errors import BadInput
from psfharvest.core.fits import names
from psfharvest.core.fits.fitscheck import Rejection

WRONG_SHAPE = "wrong_shape"
STORED: Mapping[str, str] = {
    **names.DIFFERENCES,
    "wrong_source": "the header names another exposure than was asked for",
    WRONG_SHAPE: "the image has another shape than was asked for",
    "trailing_bytes": "more follows behind the end of the FITS file",
    "truncated": "the file ends early by the standard, but astropy reads its image",
    "not_fits": "the file is against the standard, but astropy reads its image",
}
"""Deviations of files from which astropy reads an image: accepted, they are stored as they come."""
COUNTED: Mapping[str, str] = {
    "html_page": "a web page comes in place of each cutout",
    "text_page": "a message comes in place of each cutout",
    "empty": "nothing comes in place of each cutout",
    "too_large": "more comes than a cutout can hold",
    "redirect": "each cutout is redirected to where we do not follow",
}
"""What cannot be stored: accepted, it is counted as failed instead of stopping the run."""
ALWAYS = (
    "degenerate_axes", "nul_padding", "unpadded", "extra_blocks", "tile_compressed", "gzip_body", "edge_crop",
)  # fmt: skip
"""Quirks that pass without being accepted."""
_NONE: frozenset[str] = frozenset()


def checked(accept: str | Iterable[str]) -> frozenset[str]:
    """
    Return the names of deviations that a caller accepts.

    Raises
    ------
    BadInput
        For a name that is none; with all that there are, and the nearest.
    """
    if not accept:
        return _NONE
    chosen = [accept] if isinstance(accept, str) else list(accept)
    allowed = [*STORED, *COUNTED, *ALWAYS]
    for name in chosen:
        if name not in allowed:
            near = difflib.get_close_matches(str(name).lower().replace("-", "_"), allowed, n=2, cutoff=0.5)
            hint = f"; did you mean {' or '.join(near)}?" if near else "."
            raise BadInput(
                f"accept {name!r}: there is no such quirk{hint} Allowed are {', '.join([*STORED, *COUNTED])}; "
                f"these pass anyway: {', '.join(ALWAYS)}"
            )
    return frozenset(chosen)


def name_of(flaw: Rejection, accepted: Collection[str]) -> str:
    """Return by which accepted name a flaw passes, its special one first; nothing where it does not."""
    return next((name for name in (flaw.rule, flaw.reason.value) if name and name in accepted), "")
