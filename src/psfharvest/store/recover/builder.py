"""
Builds a manifest from stored cutouts, in a scratch folder; each transaction has its own checkpoint.

It has one table more than a manifest, of what is broken, which goes when it takes its name.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, Self

from psfharvest.core.catalog import detectors
from psfharvest.core.errors import FolderRefused, ManifestError
from psfharvest.core.fits import keys
from psfharvest.core.model import Item, Outcome, State
from psfharvest.filesystem.failures import cannot_store
from psfharvest.store.byte_groups import byte_groups
from psfharvest.store.manifest import damage, items, settings, targets
from psfharvest.store.manifest.manifest import Manifest, Stored
from psfharvest.store.manifest.place import MANIFEST_NAME, POINTER_NAME
from psfharvest.store.manifest.targets import Target
from psfharvest.store.recover.candidates import Candidate
from psfharvest.store.recover.check import ABSENT, CheckedCutout
from psfharvest.store.recover.detect_layout import FolderLayout

FOLDER = ".adopting"
RECORD_BYTES = 2**24
"""Upper limit of the placeholder bodies of one batch: the manifest takes only the sizes of bodies."""
_STATE = "adopting"
_BROKEN = "CREATE TABLE IF NOT EXISTS broken (n INTEGER PRIMARY KEY, problem TEXT NOT NULL, location TEXT NOT NULL)"
_STILL = "NOT EXISTS (SELECT 1 FROM outcome WHERE outcome.n = broken.n)"


class BrokenCutout(NamedTuple):
    """A cutout that is stored and not right; `uri` is empty where it is lost."""

    problem: str
    location: str
    uri: str


class ManifestBuilder:
    """
    The growing manifest; use it in a ``with`` statement.

    Parameters
    ----------
    folder
        Whose lock is held.
    kind
        How its cutouts are stored.
    identity
        Of what it is made from: where an earlier try was made from the same, it goes on.
    """

    def __init__(self, folder: Path, kind: FolderLayout, identity: str) -> None:
        self._home = folder / FOLDER
        self._of = json.dumps([kind.sink, kind.layout, identity])
        self._state: dict[str, Any] = {"of": self._of, "position": 0, "lines": 0, "mark": []}
        self.manifest = self._begun() or self._new(kind)
        with self.manifest.transaction() as db:
            db.execute(_BROKEN)

    @property
    def position(self) -> int:
        """How far the list has been read, in its own terms."""
        return int(self._state["position"])

    @property
    def lines(self) -> int:
        """How many lines of the list have been read."""
        return int(self._state["lines"])

    @property
    def mark(self) -> list[int]:
        """How far the folder has been read; nothing is not at all."""
        return list(self._state["mark"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.manifest.close()

    @contextmanager
    def step(self, **state: int | list[int]) -> Iterator[None]:
        """Do all or nothing of what happens within, and remember how far that was."""
        after = {**self._state, **state}
        with self.manifest.transaction():
            yield
            self.manifest.set(**{_STATE: json.dumps(after)})
        self._state = after

    def items_of(self, candidates: Sequence[Candidate]) -> dict[str, Item]:
        """Ask for candidates, keep their catalogue rows, and return their items by dataURI; within `step`."""
        self.manifest.add([candidate.asked for candidate in candidates])
        digests = {keys.digest(keys.key_of(c.asked.uri, c.asked.parts)) for c in candidates}
        with self.manifest.connection() as db:
            rows = items.with_names(db, sorted(digests))
        all_items = {item.uri: (item, row[items.SOURCE_AT]) for row in rows for item in [items.item_of(row)]}
        self._keep_rows(
            [(all_items[c.asked.uri][0].number, c) for c in candidates if not all_items[c.asked.uri][1]]
        )
        return {uri: item for uri, (item, _) in all_items.items()}

    def keep(self, findings: Iterable[CheckedCutout]) -> None:
        """Claim what is right, also in place of an earlier finding, and note what is broken; within `step`."""
        findings = list(findings)
        right = {finding.item.number: finding for finding in findings if not finding.problem}
        broken = [(f.item.number, f.problem, f.location) for f in findings if f.problem not in ("", ABSENT)]
        with self.manifest.connection() as db:
            twice = db.execute(f"SELECT n FROM outcome WHERE n {items.AMONG}", (items.among(right),)).fetchall()  # noqa: S608
            db.executemany("INSERT OR REPLACE INTO broken VALUES (?, ?, ?)", broken)
        self.manifest.retract([n for (n,) in twice])
        for group in byte_groups(right.values(), RECORD_BYTES, attrgetter("size_bytes")):
            self.manifest.record([_stored(finding) for finding in group])

    def lose(self, locations: Iterable[str]) -> None:
        """Record locations of bytes that belong to no cutout that can be recognised; within `step`."""
        with self.manifest.connection() as db:
            for location in locations:
                db.execute(
                    "INSERT INTO broken SELECT min(0, coalesce(min(n), 0)) - 1, 'unreadable', ? FROM broken",
                    (location,),
                )

    def finish(self, target: Target) -> None:
        """Record the list that was held against the folder as asked for, to its end."""
        (known,) = targets.find_or_add(self.manifest, [target], extend=True)
        with self.manifest.transaction():
            targets.advance(self.manifest, known, self.position, self.lines)
        targets.complete(self.manifest, known)

    def problems(self) -> dict[str, int]:
        """Return how often each problem stands behind what is broken."""
        with self.manifest.connection() as db:
            return dict(
                db.execute(f"SELECT problem, count(*) FROM broken WHERE {_STILL} GROUP BY 1 ORDER BY 1").fetchall()  # noqa: S608
            )

    def n_broken_items(self) -> int:
        """Return how many cutouts are broken whose dataURI is known."""
        with self.manifest.connection() as db:
            return int(db.execute(f"SELECT count(*) FROM broken WHERE n > 0 AND {_STILL}").fetchone()[0])  # noqa: S608

    def examples(self, limit: int) -> list[BrokenCutout]:
        """Return the first of what is broken."""
        with self.manifest.connection() as db:
            rows = db.execute(
                "SELECT problem, location, coalesce((SELECT uri FROM cutout WHERE cutout.n = broken.n), '') "  # noqa: S608
                f"FROM broken WHERE {_STILL} ORDER BY n LIMIT ?",
                (limit,),
            ).fetchall()
        return [BrokenCutout(*row) for row in rows]

    def _begun(self) -> Manifest | None:
        """Return what an earlier try has left, if it was made from the same."""
        try:
            manifest = Manifest.open(self._home)
        except (FolderRefused, ManifestError):
            return None
        try:
            state = json.loads(manifest.setting(_STATE, "{}"))
            if state.get("of") == self._of:
                self._state = state
                return manifest
        except (ManifestError, ValueError):
            pass
        manifest.close()
        return None

    def _new(self, kind: FolderLayout) -> Manifest:
        try:
            if self._home.exists():
                shutil.rmtree(self._home)
            self._home.mkdir()
        except OSError as error:
            raise cannot_store(error, str(self._home)) from error
        Manifest.create(self._home, sink=kind.sink, layout=kind.layout, **{_STATE: json.dumps(self._state)}).close()
        return Manifest.open(self._home)

    def _keep_rows(self, wanted: Sequence[tuple[int, Candidate]]) -> None:
        """Keep the catalogue rows of items that have none, each row once."""
        groups: dict[tuple[str, tuple[str, ...]], dict[str, list[int]]] = {}
        for n, candidate in wanted:
            if candidate.row and candidate.asked.parts is not None:
                parts = candidate.asked.parts
                layout = detectors.of_cutout(parts.instrument, parts.filter).name, tuple(candidate.row)
                values = json.dumps(list(candidate.row.values()))
                groups.setdefault(layout, {}).setdefault(values, []).append(n)
        for (detector, columns), rows in groups.items():
            numbers = self.manifest.sources(detector, columns, [json.loads(values) for values in rows])
            pairs = [(source, n) for source, ns in zip(numbers, rows.values(), strict=True) for n in ns]
            with self.manifest.connection() as db:
                db.executemany("UPDATE item SET source = ? WHERE n = ?", pairs)


def take_name(folder: Path) -> str:
    """
    Give a grown manifest its name, a damaged one another; return that, or nothing.

    Raises
    ------
    LocalError
        When that cannot be done.
    """
    home = folder / FOLDER
    with Manifest.open(home) as manifest, manifest.transaction() as db:
        db.execute("DROP TABLE broken")
        settings.drop(db, _STATE)
    if (home / f"{MANIFEST_NAME}-wal").exists():
        raise ManifestError(f"{home / MANIFEST_NAME} is in use; end what uses it, then run the same again")
    name = damage.set_aside(folder)
    try:
        (folder / POINTER_NAME).unlink(missing_ok=True)  # from here on the manifest stands in the folder
        (home / MANIFEST_NAME).rename(folder / MANIFEST_NAME)
    except OSError as error:
        raise cannot_store(error, MANIFEST_NAME) from error
    shutil.rmtree(home, ignore_errors=True)
    return name


def _stored(finding: CheckedCutout) -> Stored:
    stand_in = bytes(finding.size_bytes)
    outcome = Outcome(finding.item, State.DONE, 0, stand_in, finding.sha256, quirk=finding.quirk)
    return Stored(outcome, finding.shard, finding.place)
