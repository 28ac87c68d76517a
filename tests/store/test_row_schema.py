"""One schema for all files of a folder: the same columns, of the same types, whatever a file happens to hold."""

from __future__ import annotations

import json
import math
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sink_contract import BODY, cutout_uri, outcome_of

from psfharvest.core.catalog import detectors
from psfharvest.core.catalog.columns import COLUMNS, known_names
from psfharvest.core.catalog.table_column import CASTS
from psfharvest.core.model import Outcome, WantedURI
from psfharvest.store import row_schema
from psfharvest.store.folder import Settings, new_folder, old_folder, open_sink
from psfharvest.store.manifest import sources
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.recover.adopt import adopt
from psfharvest.store.row_schema import NULLS, RowSchema

WFPC2_URI = (
    "mast:WFPC2PSF/url/cgi-bin/fitscut.cgi?red=u2eq0101t_c0m[3]&size=51&x=10.5&y=40.0"
    "&format=fits/u2eq0101t_9_F606W_c0m_cutout.fits"
)
SINKS = ("parquet", "shards")


def harvest_rows(folder: Path, sink: str, detector: str, rows: dict[str, dict[str, Any]]) -> None:
    """One run: rows by dataURI are asked for and stored; an empty row is a dataURI of a list."""
    opened = old_folder if (folder / "manifest.sqlite").exists() else new_folder
    with opened(folder, Settings(sink=sink)) as manifest:
        with manifest.transaction():
            asked = []
            for uri, row in rows.items():
                numbers = manifest.sources(detector, list(row), [list(row.values())]) if row else [None]
                asked.append(WantedURI.reading(uri)._replace(source=numbers[0]))
            manifest.add(asked)
        opened_sink = open_sink(folder, manifest, Settings())
        items = manifest.pending(0, 1000, with_source=True)
        done: list[Outcome] = [outcome_of(i.uri, BODY, i.number)._replace(item=i) for i in items]
        stored = opened_sink.store(done)
        with manifest.transaction():
            manifest.record(stored)
            manifest.set(**opened_sink.checkpoint())
        opened_sink.close()


def stored_rows(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """The rows of each file, nulls as None, with the file's name."""
    found = [
        (path.parent.name, row)
        for path in sorted(folder.glob("parquet/*/*.parquet"))
        for row in pq.read_table(path).drop_columns(["image", "fits", "header"]).to_pylist()
    ]
    for path in sorted(folder.glob("shards/*.tar")):
        with tarfile.open(path) as tar:
            found += [(path.name, json.loads(tar.extractfile(m).read())) for m in tar if m.name.endswith(".json")]
    return found


def uvis(k: int, **more: Any) -> dict[str, Any]:
    return {"id": k, "rootname": "ibc302ioq", "filter": "F814W", "chip": "2", "qfit": 0.05, "focus": None, **more}


@pytest.mark.parametrize("sink", SINKS)
def test_every_file_has_every_column(tmp_path: Path, sink: str) -> None:
    """A list, UVIS, then WFPC2: all rows have all columns of the three catalogues, in one order."""
    harvest_rows(tmp_path, sink, "UVIS", {cutout_uri(1): {}})
    harvest_rows(tmp_path, sink, "UVIS", {cutout_uri(2): uvis(2)})
    harvest_rows(tmp_path, sink, "WFPC2", {WFPC2_URI: {"id": 9, "filter_1": "F606W", "chip": 3}})
    rows = [row for _, row in stored_rows(tmp_path)]

    assert 3 == len(rows)
    assert all([*rows[0]] == [*row] for row in rows)
    assert {*COLUMNS} < {*rows[0]}
    assert ["UVIS", "UVIS", "WFPC2"] == [row["detector"] for row in rows]
    assert [1, 2, 9] == [row["id"] for row in rows]
    assert ("ibc302ioq", "F814W", "flt", 51, 1.5, 40.0) == tuple(
        rows[0][name] for name in ("rootname", "filter", "suffix", "size_px", "x", "y")
    )
    if sink == "parquet":
        schemas = [pq.read_schema(path) for path in sorted(tmp_path.glob("parquet/51/*.parquet"))]
        assert 3 == len(schemas)
        assert all(schemas[0].equals(schema, check_metadata=True) for schema in schemas)
    else:
        kinds = [{name: type(value) for name, value in row.items()} for row in rows]
        assert all(kinds[0] == kind for kind in kinds)


@pytest.mark.parametrize("sink", SINKS)
def test_an_unknown_column_keeps_its_first_type(tmp_path: Path, sink: str) -> None:
    """It stands in every file after its first sight; what its type cannot hold is kept beside it."""
    harvest_rows(tmp_path, sink, "UVIS", {cutout_uri(1): uvis(1, ee50=1, blob=None)})
    harvest_rows(tmp_path, sink, "UVIS", {cutout_uri(2): uvis(2)})
    harvest_rows(tmp_path, sink, "UVIS", {cutout_uri(3): uvis(3, ee50="soft", blob=2.5)})
    harvest_rows(tmp_path, sink, "UVIS", {cutout_uri(4): uvis(4, ee50=7, blob="x", qfit="n/a")})
    rows = [row for _, row in stored_rows(tmp_path)]

    if sink == "shards":
        rows = [row_schema.plain(row) for row in rows]
    assert [1, None, None, 7] == [row["ee50"] for row in rows]
    assert [None, None, 2.5, None] == [row.get("blob") for row in rows]
    assert [None, None, {"ee50": "soft"}, {"blob": "x", "qfit": "n/a"}] == [
        row["other_values"] and json.loads(row["other_values"]) for row in rows
    ]
    with Manifest.read(tmp_path) as manifest:
        assert ("int", "float") == tuple(manifest.columns()[name] for name in ("ee50", "blob"))


@pytest.mark.parametrize("sink", SINKS)
def test_a_folder_of_an_earlier_version_goes_on(tmp_path: Path, sink: str) -> None:
    """Its rows have no recorded types: they are taken from the rows themselves, and the files have one schema."""
    with new_folder(tmp_path, Settings(sink=sink)) as manifest, manifest.transaction():
        (n,) = manifest.sources("UVIS", ["id", "ee50"], [(1, 0.5)])
        manifest.add([WantedURI.reading(cutout_uri(1))._replace(source=n)])
        with manifest.connection() as db:
            db.execute("DELETE FROM meta WHERE name = 'columns'")
    with Manifest.read(tmp_path) as manifest:
        assert {**row_schema.known_columns(), "ee50": "float"} == manifest.columns()
    harvest_rows(tmp_path, sink, "UVIS", {cutout_uri(2): uvis(2)})

    rows = [row for _, row in stored_rows(tmp_path)]
    assert [0.5] == [row["ee50"] for row in rows if row["id"] == 1]


@pytest.mark.parametrize("sink", SINKS)
def test_adopting_gives_back_the_catalogue_rows(tmp_path: Path, sink: str) -> None:
    """Rows of a catalogue come back as they were, those of a list come back without one."""
    odd = uvis(3, ee50=0.25, iso_index=1.5)
    rows = {cutout_uri(1): {}, cutout_uri(2): uvis(2, psf_flux=math.nan), cutout_uri(3): odd}
    harvest_rows(tmp_path, sink, "UVIS", rows)
    (tmp_path / "manifest.sqlite").unlink()
    adopt(tmp_path)

    with Manifest.read(tmp_path) as manifest, manifest.connection() as db:
        numbers = dict(db.execute("SELECT uri, source FROM cutout"))
        rows_of = sources.Reader().dicts(db, [n for n in numbers.values() if n is not None])
    found = {uri: None if n is None else rows_of[n][1] for uri, n in numbers.items()}
    assert found[cutout_uri(1)] is None
    for uri in (cutout_uri(2), cutout_uri(3)):
        has = {name: value for name, value in rows[uri].items() if value is not None}
        back = {name: value for name, value in found[uri].items() if value is not None}
        assert repr(has) == repr({name: back[name] for name in has})
        assert {*found[uri]} <= {*known_names(detectors.UVIS), "ee50"}


@given(
    st.dictionaries(
        st.sampled_from([*COLUMNS, "detector", "x", "ee50"]),
        st.one_of(st.none(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5), st.booleans()),
    )
)
def test_whatever_a_row_holds_its_note_is_typed(source: dict[str, Any]) -> None:
    """Each note has each key, with a value of the column's type, and the row is had back from it."""
    schema = RowSchema({**row_schema.known_columns(), "ee50": "bool"})
    for uri in (cutout_uri(1), "mast:X/readme.txt"):
        note = json.loads(schema.note(uri, json.dumps({**source, "detector": "UVIS"})))
        assert [*schema.kinds, NULLS] == [*note]
        for name, kind in schema.kinds.items():
            assert type(note[name]) is CASTS[kind], name
        assert repr(schema.row(uri, {**source, "detector": "UVIS"})) == repr(schema.row_of_note(note))


def test_notes_of_earlier_versions_are_read() -> None:
    """A note without the list of nulls has the archive's row as it came."""
    old = {"uri": cutout_uri(1), "id": 1, "qfit": None, "chip": "2", "x": 5}

    row = RowSchema().row_of_note(old)

    assert (1, None, "2", 1.5) == (row["id"], row["qfit"], row["chip"], row["x"])
    assert {"id": 1, "qfit": None, "chip": "2", "x": 5} == row_schema.catalogue_of(row_schema.plain(old))
    assert {} == row_schema.catalogue_of(row_schema.plain({"uri": cutout_uri(1)}))
