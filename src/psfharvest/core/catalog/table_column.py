"""Columns of astropy tables, for a query's answer and a harvest's rows: astroquery's types and fillers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from astropy.table import MaskedColumn
    from numpy.typing import NDArray

CASTS: Mapping[str, type] = {"str": str, "float": float, "int": int, "bool": bool}
"""Python's type, by a column's kind."""
FILLERS: Mapping[str, Any] = {"str": "", "int": -999, "float": float("nan"), "bool": False}
"""What stands for a null where a format has none: astroquery's fillers."""
_DTYPES = {"str": "str", "int": "int64", "float": "float64", "bool": "bool"}


def as_array(values: list[Any] | NDArray[Any], kind: str) -> NDArray[Any]:
    """Return values without nulls as an array of a kind's type."""
    import numpy as np  # noqa: PLC0415 - heavy

    return np.asarray(values, dtype=_DTYPES[kind])


def masked_column(
    name: str,
    data: NDArray[Any],
    mask: NDArray[np.bool_] | list[bool] | bool,
    unit: str = "",
    description: str = "",
) -> MaskedColumn:
    """Return a column of an astropy table; an empty unit or description is none."""
    from astropy.table import MaskedColumn  # noqa: PLC0415 - heavy

    return MaskedColumn(data, name=name, mask=mask, unit=unit or None, description=description or None)
