"""
`Harvest`: what a folder holds, read back without the network.

A harvest is the cutouts that were asked for, in the order of asking; its length, items and pixels are those of the
cutouts that are done. It is a snapshot: what is done later is seen by a `Harvest` made later. Memory does not
grow with the number of cutouts, but for `table` and an array that was asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from html import escape
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, overload

from psfharvest.core.account import html as report_html
from psfharvest.core.advice import repair
from psfharvest.core.catalog import criterion
from psfharvest.core.errors import BadQuery, LocalError
from psfharvest.core.fits import datauri, pixels, thumbnail
from psfharvest.core.fits.cutout import Cutout
from psfharvest.core.fits.sky import place as sky_place
from psfharvest.core.model import Report, State
from psfharvest.filesystem import extras
from psfharvest.store.manifest.manifest import Manifest
from psfharvest.store.read import found_cutouts, pieces, positions, search
from psfharvest.store.read.account import account
from psfharvest.store.read.analysis import Analysis
from psfharvest.store.read.intervals import IntervalSet, Numbers
from psfharvest.store.read.known_columns import catalogue_columns
from psfharvest.store.read.provenance import provenance
from psfharvest.store.readers.reader import Reader
from psfharvest.store.recover.verification import Verification, verify

if TYPE_CHECKING:
    from astropy.table import Table
    from numpy.typing import NDArray


class Page(Protocol):
    """The page of a harvest, as `Harvest.show` gives it."""

    @property
    def url(self) -> str:
        """Its address."""

    def close(self) -> None:
        """End the service."""

    def _repr_html_(self) -> str: ...


PAGE_ROWS = 4096
PICTURES = 12
PICTURE_PX = 76


class Harvest(Analysis, Sequence[Cutout]):
    """
    The cutouts of a harvest folder, as a sequence.

    Parameters
    ----------
    folder
        The harvest folder; it may be read-only, and may be harvested into meanwhile.

    Raises
    ------
    FolderRefused
        When the folder holds no harvest.
    ManifestError
        When its manifest cannot be read.

    Examples
    --------
    >>> stars = Harvest("stars/")
    >>> len(stars), stars[0].data.shape
    (200, (51, 51))
    >>> good = stars.select(filter=["F606W", "F814W"], qfit=(0, 0.1), size_px=51, state="done")
    >>> good.stack(51).shape == (len(good.table()), 51, 51)
    True
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self.group: dict[str, Any] = {}
        self._members: IntervalSet | None = None
        self._done: IntervalSet | None = None
        self._is_by_state = False
        self._opened: tuple[int, Manifest, Reader] | None = None
        self._open()

    @property
    def folder(self) -> Path:
        """The harvest folder."""
        return self._folder

    def __len__(self) -> int:
        return len(self._done_runs())

    @overload
    def __getitem__(self, index: int) -> Cutout: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> Harvest: ...
    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> Cutout | Harvest:
        """
        Return one cutout; or a slice, a boolean mask or positions as a harvest of its own.

        A mask has one entry a cutout, as a column of `table` has. A harvest is always in the order of asking and
        holds a cutout once, whatever the order of the positions.

        Raises
        ------
        IndexError
            When a position is out of range, or a mask has another length.
        """
        done = self._done_runs()
        if isinstance(index, slice):
            part = done.sliced(index)
            return self._view(part, part)
        if not isinstance(index, int) and (isinstance(index, Sequence) or getattr(index, "ndim", 0) > 0):
            part = done.picked(positions.picked(index, len(done)))
            return self._view(part, part)
        if not hasattr(index, "__index__"):
            raise IndexError(positions.ALLOWED)
        position = range(len(done))[index]
        return self._cutouts(done.numbers(position, position + 1))[0]

    def __iter__(self) -> Iterator[Cutout]:
        for wanted in self._done_runs().pieces(search.BATCH_SIZE):
            yield from self._cutouts(wanted)

    def __repr__(self) -> str:
        n, total = len(self), len(self._member_runs())
        return f"<Harvest {str(self._folder)!r}: {n:,} cutouts{'' if n == total else f' of {total:,} asked for'}>"

    def select(self, **criteria: Any) -> Harvest:
        """
        Return the cutouts that fit all criteria, as a harvest of its own.

        Parameters
        ----------
        **criteria
            By column, as in `Query`: a value; a list of values (any of them); or a pair, the closed range
            ``(low, high)`` with None for an open end. Beside the catalogue's columns there are ``detector``,
            ``suffix``, ``size_px``, ``state``, ``reason``, ``uri`` and the others of `table`. ``filter`` finds
            WFPC2's ``filter_1``, too. A cutout without a value for a column is not found by it.

        Raises
        ------
        BadQuery
            When the folder knows no such column; the message names those it knows.
        """
        asked = [criterion.of(column, value) for column, value in criteria.items()]
        manifest, _ = self._open()
        members = search.numbers(manifest, asked)
        if self._members is not None:
            members = members.common(self._members)
        done = members.common(self._done_runs())
        view = self._view(members, done)
        view._is_by_state = self._is_by_state or "state" in criteria
        return view

    def table(
        self,
        columns: Sequence[str] | None = None,
        *,
        state: str | Sequence[str] | None = "done",
        sky: bool = False,
    ) -> Table:
        """
        Return what is known of the cutouts as an astropy Table, one row a cutout.

        Parameters
        ----------
        columns
            Only these, in this order, null in rows that lack one; None is all: the catalogue's, then ``detector,
            suffix, extension, size_px, x, y`` (the star's 0-based place in the extension), ``uri, state, location,
            size_bytes, sha256, attempts, reason, detail, quirk``.
        state
            ``done`` (the default: the rows line up with the harvest's items), ``missing``, ``failed``, ``pending``,
            several of them, or None for every cutout asked for. A harvest that was selected by ``state`` gives all
            its cutouts.
        sky
            Add ``ra, dec`` (degrees, ICRS): the star's place by the WCS of its header, without the look-up
            distortions (see `Cutout.wcs`). Every cutout is read for it. Not given, they are there when `columns`
            names them.

        Returns
        -------
        Table
            In the order of asking. Types and fillers are astroquery's: nulls are masked, but for floats, which are
            NaN. Rows of ``select(size_px=51).table()`` line up with ``stack(51)``. ``meta`` has `provenance`.

        Raises
        ------
        BadQuery
            When a column is not there, or a state is none.
        """
        from psfharvest.store.read.tables import TableBuilder  # noqa: PLC0415 - heavy

        chosen, only_done = self, state == "done" and not self._is_by_state
        if state is not None and state != "done":
            chosen = self.select(state=[_state(name) for name in ([state] if isinstance(state, str) else state)])
        runs = chosen._done_runs() if only_done else chosen._member_runs()
        builder = TableBuilder(columns, len(runs))
        known = catalogue_columns(self._open()[0])
        if sky or not {"ra", "dec"}.isdisjoint(columns or ()):
            known |= {"ra": "float", "dec": "float"}
            for found in chosen.rows(only_done=only_done):
                builder.add({**found.source, **self._place(found), **found.ours})
        else:
            for page in runs.pieces(pieces.AT_ONCE):
                builder.add_page(self._open()[0], page)
        table = builder.table(known)
        table.meta.update(self.provenance)
        return table

    @property
    def provenance(self) -> dict[str, str]:
        """Where the folder's cutouts come from: query, archive, version, times, account and quirks, as texts."""
        return provenance(self._folder, self._open()[0])

    def failures(self) -> Table:
        """Return the cutouts that are missing or failed, as a table of ``uri, state, reason, detail, attempts``."""
        return self.table(("uri", "state", "reason", "detail", "attempts"), state=("missing", "failed"))

    def status(self) -> Report:
        """Return the account of the whole folder over all runs, as ``psfharvest status`` shows it."""
        return account(self._folder)

    def verify(self, *, repair: bool = False) -> Verification:
        """
        Re-read every stored cutout of the folder and compare it with the manifest.

        Parameters
        ----------
        repair
            Make the broken ones pending again; the next run of the harvest fetches them.

        Raises
        ------
        FolderRefused
            When `repair` is asked for while a process harvests into the folder.
        """
        self.close()
        return verify(self._folder, repair=repair)

    def rows(self, *, only_done: bool = True) -> Iterator[found_cutouts.FoundCutout]:
        """Yield what is known of each cutout, in the order of asking; `FoundCutout.source` is its catalogue row."""
        runs = self._done_runs() if only_done else self._member_runs()
        for wanted in runs.pieces(search.BATCH_SIZE):
            yield from found_cutouts.rows(self._open()[0], wanted)

    def sizes(self) -> dict[int | None, int]:
        """Return how many done cutouts have each side, in pixels; None counts files that are no cutouts."""
        counts: dict[int | None, int] = {
            size_px: n for size_px in search.sizes(self._open()[0]) if (n := len(self.done_numbers(size_px)))
        }
        rest = len(self) - sum(counts.values())
        return {**counts, None: rest} if rest else counts

    def read(self, found: found_cutouts.FoundCutout) -> Cutout:
        """
        Return the cutout of one of `rows`.

        Raises
        ------
        LocalError
            When its bytes are not where the manifest says.
        """
        raw = self.stored_bytes(found.ours["location"], found.ours["size_bytes"])
        return Cutout(found.ours["uri"], raw, found.source)

    def show(self, *, height: int = 720) -> Page:
        """
        Show the folder's page within a notebook: its progress, and all its stars to filter, sort, look at and plot.

        The page is served by a thread of this process, on an address of this machine only.

        Parameters
        ----------
        height
            Of the frame, in pixels.

        Returns
        -------
        Page
            A notebook shows it; elsewhere open its `url`. Its `close` ends the service.

        Raises
        ------
        BadInput
            When the extra ``service`` is not installed, or the kernel runs on another machine than the browser.
        """
        extras.require("the page", "service", "starlette", "uvicorn")
        # the page is built on this package; by its name, so that this package does not depend on the page
        page: Page = import_module("psfharvest.serve.notebook").show(self._folder, height)
        return page

    def close(self) -> None:
        """Let go of all files; they are opened again when they are needed."""
        opened, self._opened = self._opened, None
        if opened is not None and opened[0] == os.getpid():
            opened[1].close()
            opened[2].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_opened", None) is not None:
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: open files stay here."""
        return {**self.__dict__, "_folder": self._folder.absolute(), "_opened": None}

    def _repr_html_(self) -> str:
        """Return the account and the first few pictures, for notebooks."""
        pictures = ""
        for cutout in self[:PICTURES]:
            image = pixels.image(cutout.raw, datauri.parts_of(cutout.uri))
            pictures += "" if image is None else thumbnail.img(image, width_px=PICTURE_PX) + " "
        shown = report_html(self.status()) if self._members is None else ""
        return f"<div>{escape(repr(self)[1:-1])}{shown}<br>{pictures}</div>"

    def done_numbers(self, size: int) -> IntervalSet:
        """Return the manifest's numbers of the done cutouts of one size."""
        manifest, _ = self._open()
        found = search.numbers(manifest, [criterion.of("size_px", size)], only_done=True)
        return found if self._members is None else found.common(self._done_runs())

    def bodies(self, numbers: Numbers) -> Iterator[Cutout]:
        """Yield the cutouts with these numbers, as far as they are done, without their catalogue rows."""
        manifest, _ = self._open()
        for _, uri, location, size_bytes in found_cutouts.places(manifest, numbers):
            yield Cutout(uri, self.stored_bytes(location, size_bytes))

    def cutouts(self, numbers: Numbers) -> list[Cutout]:
        """Return the cutouts with these numbers, as far as they are done."""
        manifest, _ = self._open()
        found = found_cutouts.rows(manifest, numbers)
        return [self.read(row) for row in found if row.ours["state"] == State.DONE]

    def view(self, members: IntervalSet) -> Harvest:
        """Return done cutouts, by their numbers, as a harvest of its own."""
        return self._view(members, members)

    def column_pages(self) -> Iterator[dict[str, tuple[NDArray[Any], NDArray[Any] | None]]]:
        """
        Yield what is known of the done cutouts, in the order of asking, some thousand at once.

        Each page has, by column, the values and which of them are null: None for none of them. A column without a
        value on a page may be absent from it. What stands for a null is as in `table`.
        """
        from psfharvest.store.read.tables import TableBuilder  # noqa: PLC0415 - heavy

        for numbers in self._done_runs().pieces(PAGE_ROWS):
            builder = TableBuilder(None, len(numbers))
            builder.add_page(self._open()[0], numbers)
            yield builder.arrays()

    def stored_bytes(self, location: str | None, size_bytes: int) -> bytes:
        """
        Return the bytes of a cutout, as its `location` and `size_bytes` say where they are.

        Raises
        ------
        LocalError
            When they are not there.
        """
        if location is None:
            raise LocalError(f"{self._folder}: a cutout was taken back meanwhile; make a new Harvest")
        try:
            raw = self._open()[1].read(location, size_bytes)
        except OSError as error:
            words = f"{self._folder / location}: {error.strerror or error}"
            raise LocalError(f"{words}; run: {repair(self._folder)}") from error
        if len(raw) != size_bytes:
            words = f"{self._folder / location}: {len(raw)} of {size_bytes} bytes"
            raise LocalError(f"{words}; run: {repair(self._folder)}")
        return raw

    def _place(self, found: found_cutouts.FoundCutout) -> dict[str, float | None]:
        """Return where a star is on the sky; null where it is not done, or its header does not say."""
        at = sky_place(self.read(found)) if found.ours["state"] == State.DONE else None
        return {"ra": None if at is None else at.ra, "dec": None if at is None else at.dec}

    def _cutouts(self, wanted: Numbers) -> list[Cutout]:
        manifest, _ = self._open()
        return [self.read(found) for found in found_cutouts.rows(manifest, wanted)]

    def _done_runs(self) -> IntervalSet:
        if self._done is None:
            self._done = search.numbers(self._open()[0], only_done=True)
        return self._done

    def _member_runs(self) -> IntervalSet:
        if self._members is None:
            self._members = search.numbers(self._open()[0])
        return self._members

    def _view(self, members: IntervalSet, done: IntervalSet) -> Harvest:
        view = Harvest(self._folder)
        view._members, view._done = members, done
        return view

    def _open(self) -> tuple[Manifest, Reader]:
        """Return manifest and reader of this process: neither may be carried through a fork."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), Manifest.read(self._folder), Reader(self._folder))
        return self._opened[1:]


def _state(name: str) -> str:
    if name not in (*State,):
        raise BadQuery(f"unknown state {name!r}: one of {', '.join(State)} is allowed", field="state")
    return name
