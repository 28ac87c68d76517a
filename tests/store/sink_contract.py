"""What every sink must do; a sink's test class inherits it and says how to open and read one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import strategies as st

from psfharvest.core.fits import datauri, keys
from psfharvest.core.model import Item, Outcome, State
from psfharvest.store.manifest.manifest import Stored

BODY = b"SIMPLE  =" + bytes(17_271)


def item_of(uri: str, number: int = 1, copy: int = 0) -> Item:
    parts = datauri.parse(uri)
    size, root = (parts.size_px, parts.rootname) if parts else (None, "")
    return Item(number, uri, keys.key_of(uri, parts, copy), size, root, '{"id": 1}')


def outcome_of(uri: str, body: bytes = BODY, number: int = 1, copy: int = 0) -> Outcome:
    return Outcome(item_of(uri, number, copy), State.DONE, 1, body, hashlib.sha256(body).digest())


def cutout_uri(k: int, name: str = "F814W", size: int = 51) -> str:
    return (
        f"mast:WFC3PSF/url/cgi-bin/fitscut.cgi?red=ibc302ioq_flt[1]&size={size}&x={k}.5&y=40.0"
        f"&format=fits/ibc302ioq_{k}_{name}_flt_cutout.fits"
    )


class SinkTests:
    """The contract."""

    def open(self, folder: Path):
        raise NotImplementedError

    def read(self, folder: Path, stored: Stored) -> bytes:
        """Read one cutout back without the sink's help."""
        raise NotImplementedError

    def test_what_is_stored_can_be_read(self, tmp_path: Path) -> None:
        """Every body comes back byte by byte from the place that the sink names."""
        sink = self.open(tmp_path)
        outcomes = [outcome_of(cutout_uri(k), BODY + bytes([k]) * k, k) for k in range(1, 30)]
        stored = sink.store(outcomes[:10]) + sink.store(outcomes[10:])
        sink.close()

        assert [o.body for o in outcomes] == [self.read(tmp_path, s) for s in stored]
        assert [o.item.number for o in outcomes] == [s.outcome.item.number for s in stored]

    def test_storing_again_after_a_crash_is_harmless(self, tmp_path: Path) -> None:
        """Bytes that an unclaimed earlier try left do not hinder or double the same cutout."""
        self.open(tmp_path).store([outcome_of(cutout_uri(1), b"unclaimed")])
        sink = self.open(tmp_path)
        (stored,) = sink.store([outcome_of(cutout_uri(1))])
        sink.close()

        assert self.read(tmp_path, stored) == BODY

    @pytest.mark.parametrize("name", ["F606W/POL", "F606W;POLQ", "a" * 40, "..", "CON"])
    def test_odd_filter_names_stay_inside(self, tmp_path: Path, name: str) -> None:
        """A filter's name cannot lead outside the folder or hide a cutout."""
        home = tmp_path / "home"
        home.mkdir()
        sink = self.open(home)
        (stored,) = sink.store([outcome_of(cutout_uri(1, name))])
        sink.close()

        assert self.read(home, stored) == BODY
        assert [home] == list(tmp_path.iterdir())

    def check_any_path(self, path: str, outer: Path) -> None:
        """Whatever follows ``mast:``, the bytes land below the folder and can be read."""
        home = outer / "home"
        home.mkdir()
        sink = self.open(home)
        (stored,) = sink.store([outcome_of(f"mast:{path}")])
        sink.close()

        assert self.read(home, stored) == BODY
        assert [home] == list(outer.iterdir())


PATHS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=300)
