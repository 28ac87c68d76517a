"""However dataURIs are made to resemble each other, each has a name and a place of its own below the folder."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hostile.laws import check_key
from hostile.seeds import WORDS, cutout_uri
from psfharvest.core.errors import BadURI
from psfharvest.core.fits import datauri
from psfharvest.core.model import Item, Outcome, State, WantedURI
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.sinks.files import FileSink
from psfharvest.store.sinks.shards import ShardSink
from sampling import examples

FILTERS = ["F814W", "f814w", "F814W-2", "F814W/x", "F814W;x", "..", "F%2F", "~", "-", "a" * 40, "%" * 40, "con"]
ROOTS = ["ibc302ioq", "IBC302IOQ", "con", "nul", "manifest", "a" * 40]
CUTOUTS = st.builds(
    lambda root, name, size, x: (
        cutout_uri(0, size).replace("ibc302ioq", root).replace("F814W", name).replace("99.4127", x)
    ),
    st.sampled_from(ROOTS), st.sampled_from(FILTERS), st.sampled_from([11, 51]),
    st.sampled_from(["1.0", "1.00", "nan"]),
)  # fmt: skip
STEPS = ["a", "A", "a-2", "a~2", "a.fits", "a-2.fits", "a~2.fits", "..", ".", "", "WFC3PSF", "wfc3psf", "_WFC3PSF",
         "manifest.sqlite", "shards", "%2E", "b?c", "?", "é", "CON", "x" * 250, "x" * 251]  # fmt: skip
PATHS = st.lists(st.sampled_from(STEPS), min_size=1, max_size=4).map(lambda steps: f"mast:{'/'.join(steps)}")
LIKE = st.lists(st.sampled_from(WORDS["datauri"]), max_size=6).map(lambda w: b"mast:" + b"".join(w))
URIS = st.lists(CUTOUTS | PATHS | PATHS | LIKE.map(lambda raw: raw.decode("utf-8", "replace")), max_size=15)


def asked(uris: list[str]) -> list[WantedURI]:
    """What of them is a dataURI at all."""
    found = []
    for uri in uris:
        try:
            found.append(WantedURI(uri, None, datauri.parse(uri)))
        except BadURI:
            continue
    return found


def items_of(uris: list[str], folder: Path) -> list[Item]:
    """What the manifest makes of them, in two batches, so that names are met again in the file, too."""
    lines = asked(uris)
    Manifest.create(folder, sink="files", layout="tree").close()
    with Manifest.open(folder) as manifest:
        items: list[Item] = []
        for part in (lines[: len(lines) // 2], lines[len(lines) // 2 :]):
            with manifest.transaction():
                items += manifest.add(part)
    return items


@settings(max_examples=examples(50))
@given(URIS)
@example(["mast:a", "mast:A", "mast:a~2", "mast:a/b", "mast:a?", "mast:/a"])
@example([cutout_uri(0, 11), cutout_uri(0, 51), cutout_uri(0, 11).replace("F814W", "F814W-2")])
@pytest.mark.parametrize("layout", ["tree", "flat"])
def test_every_datauri_has_a_place_of_its_own(layout: str, uris: list[str]) -> None:
    """Different dataURIs have different keys, in any case of letters; all are stored, inside, and come back."""
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer) / "home"
        folder.mkdir()
        items = items_of(uris, folder)
        for item in items:
            check_key(item.key)
        sink = FileSink(folder, layout=layout)
        outcomes = [Outcome(item, State.DONE, 1, item.uri.encode()) for item in items]
        stored = sink.store(outcomes)
        sink.close()
        places = [str(s.place or sink.location(s.outcome.item)) for s in stored]

        assert len({line.uri for line in asked(uris)}) == len(items)
        assert len({item.key.casefold() for item in items}) == len(items)
        assert [item.uri.encode() for item in items] == [(folder / place).read_bytes() for place in places]
        assert all((folder / place).resolve().is_relative_to(folder.resolve()) for place in places)
        assert [folder] == list(Path(outer).iterdir())


@settings(max_examples=examples(30))
@given(URIS)
def test_every_datauri_has_a_member_of_its_own(uris: list[str]) -> None:
    """In a shard no two members have one name, none leads out, and each holds its own bytes."""
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer)
        items = items_of(uris, folder)
        sink = ShardSink(folder)
        sink.store([Outcome(item, State.DONE, 1, item.uri.encode()) for item in items])
        sink.close()
        with tarfile.open(folder / "shards/000000.tar") as tar:
            members = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]

    bodies = [body for name, body in members.items() if not name.endswith(".json")]
    assert 2 * len(items) == len(members)
    assert sorted(item.uri.encode() for item in items) == sorted(bodies)
    for name in members:
        assert not name.startswith("/")
        assert ".." not in name.split("/")
