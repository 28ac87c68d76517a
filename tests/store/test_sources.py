"""Catalogue rows of a folder: which item has which; found as SQL finds them; carried over a migration."""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sink_contract import cutout_uri

from psfharvest import Harvest
from psfharvest.core.catalog.criterion import AnyOf, Between
from psfharvest.core.errors import ManifestError
from psfharvest.core.model import WantedURI
from psfharvest.store.manifest import migrate, schema, spans
from psfharvest.store.manifest.block import Block
from psfharvest.store.manifest.block_arrays import BlockArrays
from psfharvest.store.manifest.block_encoder import encode
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.manifest.place import MANIFEST_NAME
from psfharvest.store.read import found_cutouts, search
from psfharvest.store.read.conditions import Condition
from sampling import examples

ODD = [
    [1, 0.1, "a", None, True],
    [2**63, math.nan, "", 1, False],
    [-1, -0.0, "1.5", "x", None],
    [2, 1e300, "NaN", 0.5, 1],
]
"""Values that a careless conversion changes."""


def earlier_folder(folder: Path, rows: list[list[Any]]) -> Path:
    """Make a folder as the version before blocks has left it: an item for each row, and one more without."""
    db = sqlite3.connect(folder / MANIFEST_NAME, isolation_level=None)
    db.execute("BEGIN")
    for statement in schema.FIRST_TABLES.split(";\n"):
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {schema.FIRST_VERSION}")
    for migration in schema.MIGRATIONS:
        if migration.name == "catalogue rows are kept by column":
            break
        migrate.apply(db, migration)
    db.execute("INSERT INTO layout VALUES (1, 'UVIS', ?)", (json.dumps(["id", "qfit", "name", "odd", "flag"]),))
    db.executemany("INSERT INTO source VALUES (?, 1, ?)", [(7 + n, json.dumps(row)) for n, row in enumerate(rows)])
    db.executemany(
        "INSERT INTO item (n, copy, source, other) VALUES (?, 0, ?, ?)",
        [(n, 6 + n if n <= len(rows) else None, f"mast:{n}") for n in range(1, len(rows) + 2)],
    )
    db.execute("INSERT INTO tally VALUES ('asked', '', ?, 0)", (len(rows) + 1,))
    db.execute(schema.VIEW)
    db.execute("COMMIT")
    db.close()
    return folder


def told(folder: Path) -> list[str]:
    """Return each cutout's row, and what the view says of it, as texts that differ when a type does."""
    with Manifest.read(folder) as manifest:
        return [
            repr((found.number, found.source, found.ours))
            for found in found_cutouts.rows(manifest, np.arange(1, 9999))
        ]


def test_rows_of_an_earlier_version_are_read_and_migrated(tmp_path: Path) -> None:
    """Before the migration, by a reader that was there before it, and after it: the same rows, numbers and view."""
    rows = [ODD[n % 4] for n in range(2500)]
    folder = earlier_folder(tmp_path, rows)
    before = told(folder)
    expected = [repr(dict(zip(["id", "qfit", "name", "odd", "flag"], row, strict=True))) for row in rows]
    assert all(row in text for row, text in zip(expected, before, strict=False))
    with Manifest.read(folder) as reader:
        view = list(reader.cutouts("n, uri, state, source"))
        columns = reader.columns()
        Manifest.open(folder).close()
        late = [
            repr((found.number, found.source, found.ours))
            for found in found_cutouts.rows(reader, np.arange(1, 9999))
        ]

    assert before == late == told(folder)
    with Manifest.read(folder) as reader, reader.connection() as db:
        assert view == list(reader.cutouts("n, uri, state, source"))
        assert columns == reader.columns() == json.loads(reader.setting("columns"))
        assert [] == db.execute("SELECT 1 FROM sqlite_master WHERE name = 'source'").fetchall()
        assert [(1, 2500, 7, 1)] == db.execute("SELECT * FROM source_span").fetchall()
    assert [float(n) for n in (1, 2)] == [
        row["id"] for row in Harvest(folder).select(flag=1).table(["id"], state=None)
    ][:2]


def test_a_row_that_cannot_be_read_stops_the_migration(tmp_path: Path) -> None:
    """The manifest is called damaged, and is left as it was."""
    folder = earlier_folder(tmp_path, ODD)
    db = sqlite3.connect(folder / MANIFEST_NAME)
    db.execute("UPDATE source SET vals = '[1, 2' WHERE n = 8")
    db.commit()

    with pytest.raises(ManifestError, match=r"catalogue row cannot be read.*adopt"):
        Manifest.open(folder)
    assert 4 == db.execute("SELECT count(*) FROM source").fetchone()[0]
    db.close()


@st.composite
def batches(draw: st.DrawFn) -> list[list[int | None]]:
    """What is asked for, batch by batch: regular stretches of 1 to 3 items a row, and others between them."""
    made: list[list[int | None]] = []
    source = 1
    for _ in range(draw(st.integers(1, 6))):
        batch: list[int | None] = []
        for _ in range(draw(st.integers(0, 4))):
            per, n = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 150, 300]))
            batch += [source + k // per for k in range(n * per - draw(st.integers(0, 1)))]
            source += n
            batch += draw(st.lists(st.none() | st.integers(1, 50), max_size=2))
        made.append(batch)
    return made


@settings(max_examples=examples(60), deadline=None)
@given(asked=batches(), data=st.data())
def test_stretches_say_what_each_item_says(asked: list[list[int | None]], data: st.DataObject) -> None:
    """However items come, a page of them is given the rows that stand in `item`."""
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE item (n INTEGER PRIMARY KEY, source INTEGER)")
    db.execute(spans.TABLE)
    given_rows = [source for batch in asked for source in batch]
    db.executemany("INSERT INTO item VALUES (?, ?)", list(enumerate(given_rows, 1)))
    n = 1
    for batch in asked:
        spans.record(db, list(enumerate(batch, n)))
        n += len(batch)
    if data.draw(st.booleans()):
        spans.cover(db)

    chosen = data.draw(st.integers(1, 5))
    numbers = np.arange(1, len(given_rows) + 1)[::chosen]
    assert [given_rows[k - 1] or 0 for k in numbers.tolist()] == spans.sources_of(db, numbers).tolist()


def test_a_query_of_many_pieces_is_one_stretch(tmp_path: Path) -> None:
    """Pieces that follow on each other are one row of the table, two suffixes or one."""
    Manifest.create(tmp_path).close()
    with Manifest.open(tmp_path) as manifest:
        for start in range(0, 1000, 100):
            with manifest.transaction() as db:
                numbers = manifest.sources("UVIS", ["id"], [[start + k] for k in range(100)])
                uris = [[cutout_uri(n, size=size) for size in (51, 101)] for n in numbers]
                manifest.add([WantedURI(uri, n) for n, pair in zip(numbers, uris, strict=True) for uri in pair])
        with manifest.connection() as db:
            assert [(1, 2000, 1, 2)] == db.execute("SELECT * FROM source_span").fetchall()


def test_a_layout_that_was_taken_back_is_forgotten(tmp_path: Path) -> None:
    """Its number is the next layout's: rows of that one get their own columns."""
    Manifest.create(tmp_path).close()

    def keep(manifest: Manifest, detector: str, name: str) -> dict[int, tuple[str, dict[str, Any]]]:
        numbers = manifest.sources(detector, [name], [[7]])
        with manifest.connection() as db, manifest.rows() as reader:
            return reader.dicts(db, numbers)

    with Manifest.open(tmp_path) as manifest:
        with suppress(LookupError), manifest.transaction():
            assert {1: ("UVIS", {"id": 7})} == keep(manifest, "UVIS", "id")
            raise LookupError
        with manifest.transaction():
            assert {1: ("IR", {"chip": 7})} == keep(manifest, "IR", "chip")


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-20, 20), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False),
    st.sampled_from([0.1, 0.30000000000000004, 100.0, -0.0, 1e20, 1e-7, math.inf]),
    st.sampled_from(["", "2", "02", "2.0", "1e1", "12abc", "-5", "F606W", "0.1", "100", "100.0", "nan", "9e999"]),
)  # fmt: skip
WANTED = st.sampled_from(
    ["0", "2", "2.0", "0.1", "0.3", "100", "100.0", "1", "-5", "F606W", "", "nan", "inf", "1e20", "1.0e+20", "007"]
)
ENDS = st.none() | st.sampled_from([-5, 0, 0.1, 2, 10.0, 100, 1e19])
CRITERIA = st.builds(lambda v: AnyOf("id", tuple(v)), st.lists(WANTED, min_size=1, max_size=3)) | st.builds(
    lambda low, high: Between("id", 0 if low is None and high is None else low, high), ENDS, ENDS
)


@settings(max_examples=examples(300), deadline=None)
@given(values=st.lists(VALUES, min_size=1, max_size=12), criterion=CRITERIA)
@example(values=[0.30000000000000004, 0.5], criterion=AnyOf("id", ("0.3",)))
@example(values=[2**53 + 1, 2**53], criterion=AnyOf("id", (str(2**53 + 1),)))
def test_criteria_find_what_sql_finds(values: list[Any], criterion: AnyOf | Between) -> None:
    """A criterion on a column of a block finds the rows that the same criterion as SQL finds, value by value."""
    db = sqlite3.connect(":memory:")
    sql, parameters = search._sql_condition(criterion)
    statement = f"SELECT coalesce({sql}, 0) FROM (SELECT ? AS id) i"
    expected = [bool(db.execute(statement, (*parameters, value)).fetchone()[0]) for value in values]

    condition = Condition(criterion)
    [column] = BlockArrays([Block(encode([[value] for value in values], 1))]).column(0)
    assert expected == condition.of_column(column).tolist()
    assert expected == [condition.holds(value) for value in values]
    assert expected == condition.of_values(values).tolist()
