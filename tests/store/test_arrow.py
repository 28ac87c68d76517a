"""Arrow tables in Parquet files: what one writer gathers into row groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest

from harness import sampled
from psfharvest.store.sinks import arrow

ROWS = 2000


@pytest.mark.sample(2)
@pytest.mark.parametrize("rows_a_table", sampled([1, 20, 100, ROWS], [20, ROWS]))
def test_row_groups_do_not_follow_the_tables_written(tmp_path: Path, rows_a_table: int) -> None:
    """Each but the last holds at least `GROUP_BYTES`, and all rows are there in their order."""
    schema = arrow.schema({"id": "int"}, {"image": 51})
    per_row = 51 * 51 * 4

    with arrow.group_writer(tmp_path / "out.parquet", schema) as write:
        for start in range(0, ROWS, rows_a_table):
            ids = np.arange(start, start + rows_a_table)
            images = np.broadcast_to(ids.astype(np.float32)[:, None, None], (len(ids), 51, 51))
            write(arrow.table(schema, [{"id": int(n), "header": ""} for n in ids], {"image": images}))
    file = pq.ParquetFile(tmp_path / "out.parquet")
    rows = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    read = file.read()

    assert all(arrow.GROUP_BYTES <= n * (per_row + 16) for n in rows[:-1])
    assert all(n * per_row <= arrow.GROUP_BYTES + rows_a_table * (per_row + 16) for n in rows)
    assert list(range(ROWS)) == read["id"].to_pylist()
    assert np.array_equal(pa.compute.list_element(read["image"], 7).to_numpy(), np.arange(ROWS, dtype=np.float32))
