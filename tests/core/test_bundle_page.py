"""The page MANIFEST.HTML of a bundle: its rows, whatever the pieces, the spelling of the tags, and the damage."""

from __future__ import annotations

import html
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfharvest.core.bundle_page import MAX_ROW_CHARS, PageRow, rows

TEXTS = st.text("aZ9é=?./_[]%-'\u2028", max_size=60).map(str.strip)
STATUSES = st.sampled_from(["OK", "remote", "ERROR", "404 <Not Found>", ""])
TAGS = st.sampled_from([("<tr>", "<td>", "</td>"), ("<TR class='x'>", "<td\nid=1>", "</TD >")])


@given(pairs=st.lists(st.tuples(TEXTS, STATUSES), max_size=8), tags=TAGS, step=st.integers(1, 500))
def test_rows_come_whole_in_pieces_of_any_size(
    pairs: list[tuple[str, str]], tags: tuple[str, str, str], step: int
) -> None:
    """Each row gives its dataURI and its status, however the text is cut; other rows are passed over."""
    row, cell, end = tags
    page = f"<table>{row}{cell}<b>URI</b>{end}</tr>"
    for text, status in pairs:
        cells = [html.escape(html.escape(f"mast:{text}")), "a.fits", "public", html.escape(status)]
        page += row + "".join(f"{cell} {inside}\n{end}" for inside in cells) + "</tr>"
    page += "</table>"
    pieces = [page[at : at + step] for at in range(0, len(page), step)]

    assert [PageRow(f"mast:{text}", status) for text, status in pairs] == list(rows(pieces))


def test_a_row_says_whether_all_is_well() -> None:
    """A row without a status says nothing against its file."""
    assert [True, True, True, False] == [PageRow("", word).is_well for word in ("OK", "Remote", "", "ERROR")]


GREEDY = {
    "rows without end": "<tr><td>",
    "half rows": "<tr><td>mast:a</td><td>",
    "cells without end": "<td>",
    "tags without end": "<tr ",
    "ends without a row": "</td>",
    "escapes": "<tr><td>mast:&amp;" + "amp;" * 50,
}


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", GREEDY)
@pytest.mark.parametrize("step", [100, 2**16, 2**22])
def test_effort_is_in_proportion_to_the_page(name: str, step: int) -> None:
    """Four megabytes made to be slow are read in seconds of processor time, and memory holds one piece."""
    page = (GREEDY[name] * (2**22 // len(GREEDY[name])))[: 2**22 if step > 100 else 2**18]
    pieces = (page[at : at + step] for at in range(0, len(page), step))
    start_s = time.process_time()
    for row in rows(pieces):
        assert len(row.uri) <= MAX_ROW_CHARS or step == 2**22
    assert time.process_time() - start_s < 20


def test_memory_holds_a_piece_and_a_row() -> None:
    """A page of a hundred megabytes without a second row costs a few hundred kilobytes."""
    piece = "<tr><td>mast:a</td>" + "x" * 2**16
    tracemalloc.start()
    n = sum(1 for _ in rows(piece if k == 0 else "x" * 2**16 for k in range(1600)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 1 == n
    assert peak < 2**20
