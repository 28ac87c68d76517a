"""Checks of the query service: counts, rows, columns, ranges, pages."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from psfharvest.archive.catalog import answer as answers
from psfharvest.archive.catalog.rows import Unreadable
from psfharvest.core.catalog import columns as known
from psfharvest.core.catalog.columns import SOURCE_KEY
from psfharvest.core.catalog.criterion import AnyOf, Between, Criterion
from psfharvest.core.catalog.detectors import Detector
from psfharvest.core.catalog.learnt import Ends
from psfharvest.core.catalog.partition import HIGHEST, LOWEST, MIN_PAGE_ROWS
from psfharvest.core.errors import BadURI
from psfharvest.core.fits import datauri
from psfharvest.doctor.check import CheckResult, adapted, expected, of_deviations, report
from psfharvest.doctor.visit import COUNT, QueryReply, Visit, named_rows

N_SIX = 6
"""How many sources the published notebook's first query gives."""
N_SAMPLE = 100
N_LARGE = 5000
NARROW_PX = 0.005
"""Half the width of a stripe that holds some hundred of a database's tens of millions of sources."""
_TYPES = frozenset({"string", "int", "float", "boolean"})


def notebook_query() -> list[Criterion]:
    """Return the criteria of the published notebook's first query."""
    return [
        Between("psf_x_center", 100, 102),
        Between("psf_y_center", 100, 102),
        AnyOf("n_sat_pixels", ("0",)),
    ]


async def count(visit: Visit) -> CheckResult:
    """Count the sources of the notebook's query."""
    answer = await visit.ask(visit.main, COUNT, notebook_query())
    if answer.parsed is None and answer.is_refusal:
        paged = await visit.ask(visit.main, "id", notebook_query(), page_rows=1)
        try:
            visit.n_six = answers.total_of(paged.parsed or {"_layout": ()})
        except Unreadable:
            return report(f"neither counts nor totals: {answer.error}", answer.reply)
        visit.learnt.counts = False
        return adapted(f"it does not count ({answer.error}): totals are read from pages", answer.reply)
    if answer.parsed is None:
        return report(answer.error, answer.reply)
    try:
        visit.n_six = answers.count_of(answer.parsed)
    except Unreadable as error:
        return report(str(error), answer.reply)
    deviations = [*answer.deviations, *_count_deviations(answer)]
    if visit.main.name == "UVIS" and visit.n_six != N_SIX:
        deviations.append(f"the notebook's query gives {visit.n_six} sources, not {N_SIX}")
    return of_deviations(deviations, f"{visit.n_six} sources", answer.reply)


async def six_rows(visit: Visit) -> CheckResult:
    """Get the rows of the notebook's query, and compare their number with the count."""
    answer = await visit.ask(visit.main, _needed(visit), notebook_query(), page_rows=1000)
    found = _rows(answer)
    if isinstance(found, str):
        return report(found, answer.reply)
    visit.six = found
    if len(found) != visit.n_six:
        return report(f"{len(found)} rows, though the count is {visit.n_six}", answer.reply)
    return of_deviations([*answer.deviations, *_frame_deviations(answer)], f"{len(found)} rows", answer.reply)


async def columns(visit: Visit, detector: Detector) -> CheckResult:
    """Compare the columns of some rows with those that are known."""
    answer = await _sample(visit, detector, "*")
    found = _rows(answer)
    deviations: list[str] = []
    if isinstance(found, str):
        named = await _sample(visit, detector, ",".join(known.known_names(detector)))
        again = _rows(named)
        if isinstance(again, str):
            return report(found, answer.reply)
        visit.learnt.is_star = False
        deviations.append(f"it does not give all columns at once ({found})")
        answer, found = named, again
    visit.rows[detector.name] = found
    if not found:
        return report("the database gave no row", answer.reply)
    names = list(found[0])
    gone = [name for name in known.known_names(detector) if name not in names]
    new = [name for name in names if name not in known.known_names(detector)]
    for name in gone:
        visit.learnt.note_absent(detector.name, name)
    deviations += [f"no column {name!r}" for name in gone] + [f"a new column {name!r}" for name in new]
    deviations += answer.deviations + _frame_deviations(answer) + _value_deviations(answer, found, detector)
    if refused := _unbuildable(found, detector):
        return report("; ".join([refused, *deviations]), answer.reply)
    return of_deviations(deviations, f"{len(names)} columns, {len(found)} rows looked at", answer.reply)


async def id_criterion(visit: Visit) -> CheckResult:
    """Ask for one source by its id."""
    one = _some_id(visit)
    if one is None:
        return report("no id to ask for", None)
    answer = await visit.ask(visit.main, "id,rootname", [AnyOf("id", (str(one),))], page_rows=10)
    found = _rows(answer)
    if isinstance(found, str):
        visit.learnt.unfiltered.append(visit.main.name)
        return adapted(f"id is no criterion ({found}): long queries are read page by page", answer.reply)
    if not found or any(row.get("id") != one for row in found):
        return report(f"asked for id {one}, it gave {[row.get('id') for row in found][:5]}", answer.reply)
    if len(found) > 1:
        return adapted(f"{len(found)} sources have the id {one}: both are kept", answer.reply)
    return expected(f"id {one} gives one row", answer.reply)


async def range_ends(visit: Visit) -> CheckResult:
    """Find out whether both ends of a range belong to it."""
    one = _some_id(visit)
    if one is None:
        return report("no id to ask for", None)
    found: dict[str, int | None] = {}
    reply = None
    for name, low, high in (("both", one, one), ("low", one, one + 1), ("high", one - 1, one)):
        answer = await visit.ask(visit.main, "id", [Between("id", low, high)], page_rows=10)
        rows = _rows(answer)
        reply = answer.reply if reply is None else reply
        if isinstance(rows, str):
            if visit.main.name in visit.learnt.unfiltered:
                return adapted("ranges of id are not taken either", answer.reply)
            return report(rows, answer.reply)
        found[name] = sum(row.get("id") == one for row in rows)
        if found["both"]:
            visit.learnt.ends = Ends()
            return expected("both ends belong to a range", reply)
    low_in, high_in = bool(found["low"]), bool(found["high"])
    if low_in and high_in:
        return report("a range of one id is empty, though its ends belong to longer ones", reply)
    visit.learnt.ends = Ends(low_in, high_in)
    which = "both ends" if not (low_in or high_in) else "the upper end" if low_in else "the lower end"
    return adapted(f"{which} of a range left out: ranges are widened by one", reply)


async def open_ends(visit: Visit) -> CheckResult:
    """Count with a range of all ids, as a range without ends is sent."""
    some = await _some_sources(visit)
    if isinstance(some, CheckResult):
        return some
    criteria, n, _ = some
    total, answer = await _counted(visit, [*criteria, Between("id", LOWEST, HIGHEST)])
    if total is None:
        return _uncounted(visit, answer)
    if total != n:
        return report(f"all ids give {total} sources, no criterion on id gives {n}", answer.reply)
    return expected("a range with very far ends holds all", answer.reply)


async def halves(visit: Visit) -> CheckResult:
    """Split a query in two ranges of id, and compare the sum with the whole."""
    some = await _some_sources(visit)
    if isinstance(some, CheckResult):
        return some
    criteria, n, ids = some
    middle = ids[len(ids) // 2]
    ends = visit.learnt.ends or Ends()
    low, answer = await _counted(visit, [*criteria, Between("id", LOWEST, middle - 1 + (not ends.high))])
    high, second = await _counted(visit, [*criteria, Between("id", middle - (not ends.low), HIGHEST)])
    if low is None or high is None:
        return _uncounted(visit, answer if low is None else second)
    if low + high != n:
        return report(f"halves of {low} and {high} sources make no whole of {n}", second.reply)
    return expected(f"{low} and {high} sources make {n}", second.reply)


async def _some_sources(visit: Visit) -> tuple[list[Criterion], int, list[int]] | CheckResult:
    """Return criteria that few sources meet, their number, and ids of some: those of the notebook, or others."""
    ids = sorted(row["id"] for row in visit.six if isinstance(row.get("id"), int))
    if ids:
        return notebook_query(), visit.n_six, ids
    rows = [row for row in visit.rows.get(visit.main.name, []) if isinstance(row.get("id"), int)]
    places = [row["psf_x_center"] for row in rows if isinstance(row.get("psf_x_center"), float)]
    if not places:
        return report("no source to ask for", None)
    near: list[Criterion] = [Between("psf_x_center", places[0] - NARROW_PX, places[0] + NARROW_PX)]
    n, answer = await _counted(visit, near)
    return report(answer.error, answer.reply) if n is None else (near, n, sorted(row["id"] for row in rows))


async def large_page(visit: Visit) -> CheckResult:
    """Ask for some thousand rows at once; fewer, where that fails."""
    whole, answer = await _counted(visit, [])
    if not whole:
        return report(answer.error or "the database is empty", answer.reply)
    frame = float(visit.main.full_frame_px)
    width = min(frame, frame * N_LARGE / whole * 0.8)
    start = frame * 0.4 if width < frame * 0.5 else 0.0
    criteria: list[Criterion] = [Between("psf_x_center", round(start, 2), round(start + width, 2))]
    total, answer = await _counted(visit, criteria)
    if not total:
        return report(answer.error or "a range of positions is empty", answer.reply)
    asked = total
    trouble = ""
    while True:
        answer = await visit.ask(visit.main, _needed(visit), criteria, page_rows=asked)
        found = _rows(answer)
        if not isinstance(found, str) or asked <= MIN_PAGE_ROWS:
            break
        trouble, asked = found, max(MIN_PAGE_ROWS, asked // 4)
    if isinstance(found, str):
        return report(found, answer.reply)
    per_s = len(found) / max(answer.reply.elapsed_s, 1e-3)
    words = f"{len(found):,} rows in {answer.reply.elapsed_s:.1f} s ({per_s:,.0f} a second)"
    visit.large = (found, answer.reply)
    deviations = [*answer.deviations, *_frame_deviations(answer)]
    deviations += _value_deviations(answer, found, visit.main)
    if trouble or len(found) < asked:
        visit.learnt.page_rows = max(1, len(found))
        why = trouble or f"{len(found):,} rows instead of {asked:,}"
        deviations.insert(0, f"{why}: an answer is trusted to hold {visit.learnt.page_rows:,} rows")
    if refused := _unbuildable(found, visit.main):
        return report("; ".join([refused, *deviations]), answer.reply)
    return of_deviations(deviations, words, answer.reply)


async def unique_ids(visit: Visit) -> CheckResult:
    """Look for ids that come twice in the large page."""
    if visit.large is None:
        return report("no large page came", None)
    found, reply = visit.large
    return of_deviations(_doubled(found), f"{len(found):,} rows, no id twice", reply)


async def _sample(visit: Visit, detector: Detector, names: str) -> QueryReply:
    """Return some rows, from a stripe of positions: a query of a whole database of this size is never answered."""
    middle = detector.full_frame_px / 2
    halves_px = (NARROW_PX, middle / 20) if visit.requester.endpoints.is_public else (middle, NARROW_PX)
    for half in halves_px:
        criteria = [Between("psf_x_center", middle - half, middle + half)]
        answer = await visit.ask(detector, names, criteria, page_rows=N_SAMPLE)
        if answer.is_refusal or (answer.parsed is not None and answer.parsed.get("data")):
            break
    return answer


def _needed(visit: Visit) -> str:
    """Return the columns that a dataURI needs, as far as the main database has them."""
    names = (*known.needed(visit.main), "psf_flux", "n_sat_pixels")
    return ",".join(name for name in dict.fromkeys(names) if not visit.learnt.lacks(visit.main.name, name))


async def _counted(visit: Visit, criteria: Sequence[Criterion]) -> tuple[int | None, QueryReply]:
    is_paged = not visit.learnt.counts
    answer = await visit.ask(visit.main, "id" if is_paged else COUNT, criteria, page_rows=1 if is_paged else 0)
    if answer.parsed is None:
        return None, answer
    try:
        return (answers.total_of if is_paged else answers.count_of)(answer.parsed), answer
    except Unreadable as error:
        return None, answer._replace(error=str(error))


def _uncounted(visit: Visit, answer: QueryReply) -> CheckResult:
    if visit.main.name in visit.learnt.unfiltered:
        return adapted("ranges of id are not taken: long queries are read page by page", answer.reply)
    return report(answer.error, answer.reply)


def _rows(answer: QueryReply) -> list[dict[str, Any]] | str:
    """Return the rows of an answer, or why there are none."""
    if answer.parsed is None:
        return answer.error
    try:
        return named_rows(answer.parsed)
    except Unreadable as error:
        return str(error)


def _some_id(visit: Visit) -> int | None:
    rows = [*visit.six, *visit.rows.get(visit.main.name, [])]
    ids = sorted(row["id"] for row in rows if isinstance(row.get("id"), int))
    return ids[len(ids) // 2] if ids else None


def _count_deviations(answer: QueryReply) -> list[str]:
    data = (answer.plain or {}).get("data")
    row = data[0] if isinstance(data, list) and data else None
    if not isinstance(row, dict):
        return ["the count is in no row"]
    deviations = [
        f"a count has the column {name!r}, too" if "Column1" in row else f"the count is called {name!r}"
        for name in row
        if name != "Column1"
    ]
    number = next((row[name] for name in row if name != "_selected_"), None)
    if type(number) is not int:
        deviations.append(f"the count is {type(number).__name__} {str(number)[:20]!r}")
    return deviations


def _frame_deviations(answer: QueryReply) -> list[str]:
    fields = (answer.plain or {}).get("fields")
    if not isinstance(fields, list):
        return ["rows come without 'fields'"]
    names = [str(field.get("name")) for field in fields if isinstance(field, dict)]
    types = sorted({str(field.get("type")) for field in fields if isinstance(field, dict)} - _TYPES)
    deviations = [f"fields have the types {', '.join(types)}"] if types else []
    return deviations + (["rows have the column '_selected_'"] if "_selected_" in names else [])


def _value_deviations(answer: QueryReply, found: list[dict[str, Any]], detector: Detector) -> list[str]:
    """Return what needed columns hold beside plain values; looked at before blanks are stripped."""
    raw = [row for row in (answer.plain or {}).get("data") or [] if isinstance(row, dict)]
    deviations = []
    for name in known.needed(detector):
        if not found or name not in found[0]:
            continue
        values = [row.get(name) for row in raw]
        texts = [value for value in values if isinstance(value, str)]
        kinds = {
            "null": sum(value is None for value in values),
            "NaN": sum(isinstance(value, float) and math.isnan(value) for value in values),
            "blank": sum(not text.strip() for text in texts),
        }
        deviations += [f"{name} is {kind} in {n} of {len(values)} rows" for kind, n in kinds.items() if n]
        if any(text != text.strip() for text in texts if text.strip()):
            deviations.append(f"{name} is padded with blanks")
        if name == "chip":
            usual = {*detector.chips, ""}
            odd = {
                repr(v)[:20] for v in values if v is not None and not (isinstance(v, str) and v.strip() in usual)
            }
            deviations += [f"chip is {', '.join(sorted(odd)[:3])}"] if odd else []
        if name == "rootname" and any(text.strip() != text.strip().lower() for text in texts):
            deviations.append("rootname has capital letters")
    return deviations


def _unbuildable(found: list[dict[str, Any]], detector: Detector) -> str:
    reasons: Counter[str] = Counter()
    for row in found:
        try:
            datauri.build_checked(row, detector, detector.suffixes[-1])
        except BadURI as error:
            reasons[error.why] += 1
    words = [f"{n} of {len(found)} rows give no dataURI: {reason}" for reason, n in reasons.most_common(2)]
    return "; ".join(words)


def _doubled(found: list[dict[str, Any]]) -> list[str]:
    ids = Counter(row.get("id") for row in found)
    n_ids = sum(n > 1 for n in ids.values())
    if not n_ids:
        return []
    copies = Counter(tuple(row.get(name) for name in SOURCE_KEY) for row in found)
    n_copies = sum(n - 1 for n in copies.values())
    if n_copies:
        return [f"{n_copies} rows come twice: each is kept once"]
    return [f"{n_ids} ids belong to several sources: all are kept"]
