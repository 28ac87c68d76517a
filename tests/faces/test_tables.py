"""Tables as lines of text: slice by slice, and equal to what astropy writes at once."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from psfharvest.show.tables import ROWS_AT_ONCE, json_lines, write_lines


def table_of(n: int) -> Table:
    """Return a table of as many rows, with nulls of each kind, odd texts, and what goes into a header."""
    numbers = np.arange(n)
    names = np.array(["F606W", "a,b", 'say "so"', "", "ü", "# none", "-1"])
    table = Table(masked=True, meta={"query": "UVIS filter=F606W", "notes": ["one", "two"]})
    table["id"] = MaskedColumn(numbers, mask=numbers % 7 == 3, description="number")
    table["filter"] = MaskedColumn(names[numbers % len(names)], mask=numbers % len(names) == 3)
    table["psf_flux"] = MaskedColumn(np.where(numbers % 5 == 1, np.nan, numbers / 3), unit="electron")
    table["is_odd"] = MaskedColumn(numbers % 2 == 1, mask=numbers % 11 == 5)
    return table


@pytest.mark.parametrize("n", [0, 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1], ids=["none", "one", "a-slice", "two-slices"])
@pytest.mark.parametrize("file_format", ["ascii.csv", "ascii.ecsv"])
def test_a_file_of_slices_is_astropys_byte_by_byte(tmp_path: Path, n: int, file_format: str) -> None:
    """A table of several slices is written as astropy writes it whole."""
    table = table_of(n)
    write_lines(table, tmp_path / "ours", file_format)
    table.write(tmp_path / "theirs", format=file_format)

    assert (tmp_path / "theirs").read_bytes() == (tmp_path / "ours").read_bytes()


def test_rows_as_json_keep_order_and_nulls_across_slices() -> None:
    """Each row is one object; what is masked or not finite is null, also behind the first slice."""
    table = table_of(ROWS_AT_ONCE + 100)
    rows = [json.loads(line) for line in json_lines(table)]

    assert len(table) == len(rows)
    for place in (0, 1, 3, 5, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, ROWS_AT_ONCE + 99):
        row, flux = rows[place], table["psf_flux"].data.data[place]
        assert table.colnames == list(row)
        assert (None if place % 7 == 3 else place) == row["id"]
        assert (None if place % 7 == 3 else str(table["filter"].data.data[place])) == row["filter"]
        assert (None if math.isnan(flux) else flux) == row["psf_flux"]
        assert (None if place % 11 == 5 else place % 2 == 1) == row["is_odd"]
