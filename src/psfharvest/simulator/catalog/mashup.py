"""
The query service: one Mashup request in, one answer out, as JSON text.

Rules: HTTP 200 whatever happens; rows come in an order that means nothing; no answer holds more rows
than the cap; a job is known by its service, parameters and cachebreaker, and polls of it run it no second
time.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from psfharvest.simulator.catalog.catalogue import Catalogue
from psfharvest.simulator.catalog.columns import COLUMNS, SERVICES
from psfharvest.simulator.catalog.criteria import Indices, MashupError, known_column, matching
from psfharvest.simulator.catalog.table import Table
from psfharvest.simulator.oddities import answers
from psfharvest.simulator.settings import Settings

COUNT: Final = "COUNT_BIG(*)"
_MAX_JOBS: Final = 10_000


LARGE_ROWS: Final = 100
"""Rows of the largest answer that an archive of the oddities about size delivers."""
CAP_ROWS: Final = 150
"""What an answer holds at most with the oddity ``row_cap``."""
NO_ID: Final = frozenset({"no_id_criterion", "page_repeats"})
"""Oddities of archives that take no criterion on ``id``."""


class TooManyRowsError(Exception):
    """Raised when the archive would run out of memory: it resets the connection."""


class TooLargeError(Exception):
    """Raised when an answer is larger than the archive can deliver: it is a 500."""


@dataclass(frozen=True, slots=True)
class MashupRequest:
    """A Mashup request that makes sense."""

    service: str
    params: dict[str, Any]
    format: str
    page: int | None
    pagesize: int | None
    breaker: str

    @property
    def job(self) -> str:
        """What polls of one job have in common."""
        return json.dumps([self.service, self.params, self.breaker], sort_keys=True)


@dataclass(frozen=True, slots=True)
class Twist:
    """What a fault does to an answer: the ``msg`` of an error, endless execution, or a silent cap on rows."""

    error: str | None = None
    is_executing: bool = False
    max_rows: int | None = None


class Mashup:
    """Answers queries."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self._catalogue = catalogue
        self._settings = settings
        self._lock = threading.Lock()
        self._polls: OrderedDict[str, int] = OrderedDict()
        self._calls = 0

    def answer(self, request: str | None, twist: Twist | None = None) -> bytes:
        """
        Answer one request.

        Raises
        ------
        TooManyRowsError
            Where the connection is to be reset instead.
        """
        twist = twist or Twist()
        try:
            ask = _understood(request)
            if twist.error is not None:
                return _failed(twist.error)
            if twist.is_executing or self._is_executing(ask):
                return json.dumps({"status": "EXECUTING", "msg": "", "percent complete": 0.5}).encode()
            return self._complete(ask, twist)
        except MashupError as error:
            return _failed(str(error))

    def _is_executing(self, ask: MashupRequest) -> bool:
        if self._settings.executing_polls == 0:
            return False
        with self._lock:
            polls = self._polls.get(ask.job, 0)
            self._polls[ask.job] = polls + 1
            self._polls.move_to_end(ask.job)
            if len(self._polls) > _MAX_JOBS:
                self._polls.popitem(last=False)
        return polls < self._settings.executing_polls

    def _complete(self, ask: MashupRequest, twist: Twist) -> bytes:
        detector = SERVICES.get(ask.service)
        if detector is None:
            raise MashupError(f"Unknown service: '{ask.service}'.")
        if ask.format not in {"json", "extjs"}:
            raise MashupError(f"Unknown format: '{ask.format}'.")
        table = self._catalogue[detector]
        oddities = self._settings.oddities
        gone = answers.columns_without(oddities, detector)
        names = _asked_columns(detector, ask.params.get("columns"), gone, has_star="no_star" not in oddities)
        filters = ask.params.get("filters")
        _refuse_columns(filters, gone | ({"id"} if NO_ID.intersection(oddities) else set()))
        found = matching(table, filters, self._settings)
        is_count = names == [COUNT]
        if is_count and "no_count" in oddities:
            raise MashupError("Error Parsing json response: Could not count")
        if is_count:
            fields = [{"name": "Column1", "type": "string"}]
            text = _render(ask, fields, [f'{{"Column1": {len(found)}}}'], _paging(1, 50_000, 1, 1))
        elif len(found) > self._settings.max_result_rows:
            raise TooManyRowsError
        else:
            text = self._page(ask, table, names, self._ordered(ask, found), twist)
        if not oddities or ask.format != "json":
            return text
        return answers.changed(text, oddities, detector, is_count=is_count)

    def _ordered(self, ask: MashupRequest, found: Indices) -> Indices:
        if self._settings.row_order == "id":
            return found
        with self._lock:
            self._calls += 1
            call = self._calls
        if self._settings.row_order == "job":
            call = int.from_bytes(ask.job.encode()[-64:], "little")
        shuffled: Indices = np.random.default_rng([self._settings.seed, call]).permutation(found)
        return shuffled

    def _page(self, ask: MashupRequest, table: Table, names: list[str], found: Indices, twist: Twist) -> bytes:
        if twist.max_rows is not None:
            found = found[: twist.max_rows]
        asked = self._settings.default_page_rows
        if ask.page is not None:
            asked = ask.pagesize if ask.pagesize is not None else asked
        size = max(1, min(asked, self._settings.max_answer_rows))
        page = max(1, ask.page or 1)
        if "row_cap" in self._settings.oddities:
            found = found[:CAP_ROWS]
        n_repeated = int(page > 1 and "page_repeats" in self._settings.oddities)
        part = found[(page - 1) * size - n_repeated : page * size]
        if len(part) > LARGE_ROWS and "large_500" in self._settings.oddities:
            raise TooLargeError
        if len(part) > LARGE_ROWS and "large_timeout" in self._settings.oddities:
            raise MashupError("Timeout Expired. The timeout period elapsed prior to completion of the operation.")
        fields = [{"name": name, "type": COLUMNS[table.detector][name].kind} for name in names]
        texts = [_texts(table, name, part, self._settings) for name in names]
        # Keys come sorted, hence in another order than ``fields``, as the recorded answers have them
        keyed = sorted(zip(names, texts, strict=True), key=lambda pair: pair[0])
        if ask.format == "extjs":
            rows = _rows("[" + ", ".join(["%s"] * len(names)) + "]", texts)
        else:
            template = ", ".join(f"{json.dumps(name)}: %s" for name, _ in keyed)
            rows = _rows("{" + template + "}", [text for _, text in keyed])
        return _render(ask, fields, rows, _paging(page, size, len(part), len(found)))


def _rows(template: str, texts: list[list[str]]) -> Iterable[str]:
    return map(template.__mod__, zip(*texts, strict=True))


def _understood(request: str | None) -> MashupRequest:
    try:
        form = json.loads(request or "")
    except ValueError as error:
        raise MashupError(f"Unable to parse the request: {error}") from None
    if not isinstance(form, dict) or not isinstance(form.get("service"), str):
        raise MashupError("Unable to parse the request: 'service' is required.")
    params = form.get("params")
    if not isinstance(params, dict):
        raise MashupError("Unable to parse the request: 'params' is required.")
    return MashupRequest(
        service=form["service"],
        params=params,
        format=str(form.get("format", "extjs")),
        page=_whole(form, "page"),
        pagesize=_whole(form, "pagesize"),
        breaker=str(form.get("cachebreaker", form.get("cacheBreaker", ""))),
    )


def _whole(form: dict[str, Any], name: str) -> int | None:
    value = form.get(name)
    if value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise MashupError(f"Unable to parse the request: '{name}' must be a number.") from None


def _refuse_columns(filters: Any, gone: frozenset[str]) -> None:
    if filters is None:
        raise MashupError("Parameter 'filters' is required.")
    for entry in filters if isinstance(filters, list) else ():
        if isinstance(entry, dict) and entry.get("paramName") in gone:
            raise MashupError(f"Invalid column name '{entry['paramName']}'.")


def _asked_columns(detector: str, columns: Any, gone: frozenset[str], *, has_star: bool) -> list[str]:
    if not isinstance(columns, str) or not columns.strip():
        raise MashupError("Parameter 'columns' is required.")
    if columns.strip() == "*" and not has_star:
        raise MashupError("The query processor ran out of internal resources.")
    if columns.strip() == "*":
        return [name for name in COLUMNS[detector] if name not in gone]
    names = [name.strip() for name in columns.split(",")]
    if names == [COUNT]:
        return names
    for name in names:
        if name in gone:
            raise MashupError(f"Invalid column name '{name}'.")
    return [known_column(detector, name).name for name in names]


def _texts(table: Table, name: str, at: Indices, settings: Settings) -> list[str]:
    """Give one column of some rows as JSON texts."""
    column = COLUMNS[table.detector][name]
    values = table.column(name, at)
    if column.kind == "int":
        return list(map(str, values.tolist()))
    if column.kind == "float":
        return ["null" if value != value else repr(value) for value in values.tolist()]  # noqa: PLR0124 - NaN
    if settings.chip_json == "number" and name in {"chip", "mtflag"}:
        return list(map(str, values.tolist()))
    return _quoted(values)


def _quoted(values: NDArray[Any]) -> list[str]:
    quoted: Callable[[str], str] = json.dumps
    known = {"": "null"}
    return [known.get(value) or known.setdefault(value, quoted(value)) for value in values.tolist()]


def _paging(page: int, size: int, rows: int, total: int) -> dict[str, int]:
    return {
        "page": page,
        "pageSize": size,
        "pagesFiltered": -(-total // size),
        "rows": rows,
        "rowsFiltered": total,
        "rowsTotal": total,
    }


def _render(ask: MashupRequest, fields: list[dict[str, str]], rows: Iterable[str], paging: dict[str, int]) -> bytes:
    data = "[" + ",\n  ".join(rows) + "]"
    if ask.format == "json":
        return (
            f'{{"status": "COMPLETE", "msg": "", "data": {data},\n "fields": {json.dumps(fields)},\n '
            f'"paging": {json.dumps(paging)}}}'
        ).encode()
    columns = [{"text": field["name"], "dataIndex": field["name"]} for field in fields]
    if data.startswith("[{"):  # a count
        data = data.replace('{"Column1": ', "[").replace("}", "]")
    properties = json.dumps({"Paging": paging})
    return (
        f'{{"status": "COMPLETE", "msg": "", "data": {{"Tables": [{{"ExtendedProperties": {properties}, '
        f'"Columns": {json.dumps(columns)}, "Fields": {json.dumps(fields)}, "Rows": {data}}}]}}}}'
    ).encode()


def _failed(message: str) -> bytes:
    return json.dumps({"status": "ERROR", "msg": message, "data": [], "fields": [], "paging": None}).encode()
