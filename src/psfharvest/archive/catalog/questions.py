"""Columns and ranges of a listing's requests, adapted to what was learnt of the archive."""

from __future__ import annotations

from collections.abc import Iterable

from psfharvest.archive.catalog.mashup import Mashup, Undelivered
from psfharvest.archive.catalog.rows import Rows
from psfharvest.core.catalog import columns as known
from psfharvest.core.catalog.criterion import Between, Criterion
from psfharvest.core.catalog.learnt import Ends
from psfharvest.core.catalog.partition import MIN_PAGE_ROWS, WHOLE, Part
from psfharvest.core.catalog.query import Query
from psfharvest.core.errors import BadQuery

STAR = ("*",)
KNOWN_INSTEAD = "the known ones were asked for by name"


class NoCriterion(Exception):
    """Raised when the archive takes no criterion on the id, or does not keep to it."""


class EndsLearnt(Exception):
    """Raised when the archive turns out to read ranges in another way than they were sent."""


class Questions:
    """
    The questions of one query.

    Parameters
    ----------
    mashup, query
        Who answers, and what is asked for.
    every_column
        Whether a query that names no columns is for all that the archive has; else for those that are known.
    """

    def __init__(self, mashup: Mashup, query: Query, *, every_column: bool) -> None:
        self._mashup = mashup
        self._query = query
        self._given: int | None = None
        """The last id that came with a part."""
        self._failed: Part | None = None
        """The first part of few rows that did not come."""
        self._star = query.columns is None and (every_column or query.wants_all)

    async def count(self, part: Part) -> int:
        """
        Return the number of sources in a part.

        Raises
        ------
        NoCriterion
            When the archive refuses a criterion on the id that is our own.
        """
        try:
            return await self._mashup.count(self._query, part)
        except BadQuery as error:
            if error.field == "id" and part != WHOLE and all(c.column != "id" for c in self._query.criteria):
                raise NoCriterion from error
            raise

    async def rows(self, part: Part, expected: int) -> Rows:
        """
        Return the rows of a part as they came.

        Raises
        ------
        Undelivered
            When the archive lives, but does not deliver that many.
        NoCriterion, EndsLearnt
            When it gives what does not belong to the part, or leaves out what does.
        """
        rows = await self._noted(part, expected)
        if part == WHOLE or not rows.values:
            return rows
        if "id" not in rows.columns:
            raise self._mashup.down("the archive leaves out the column 'id'")
        within = rows.within(*part)
        beyond = {id_ for id_ in rows.ids() if id_ is not None and not part.low <= id_ <= part.high}
        learnt = self._mashup.learnt
        if beyond and learnt.ends is not None and beyond <= {part.low - 1, part.high + 1}:
            learnt.ends = None  # the ends are included after all
            raise EndsLearnt
        if beyond:
            raise NoCriterion
        if learnt.ends is None and within.values and _is_split(self._query.criteria, part):
            await self._learn_ends(within)
            if learnt.ends is not None and not all(learnt.ends):
                raise EndsLearnt
        if within.values:
            self._given = within.ids()[-1]
        return within

    async def page(self, part: Part, expected: int, page: int = 1, page_rows: int = 0) -> Rows:
        """
        Return one page with the columns that are wanted; where the archive refuses them, with those that it has.

        Raises
        ------
        Undelivered, BadQuery
            When it gives neither.
        """
        learnt, query = self._mashup.learnt, self._query
        own = {*(query.columns or ()), *(c.column for c in query.criteria)}
        refused: BadQuery | Undelivered | None = None
        while True:
            is_star = self._star and learnt.is_star and refused is None
            columns = STAR if is_star else self._columns()
            try:
                rows = await self._mashup.rows(query, part, expected, columns, page, page_rows, self._control(part))
            except (BadQuery, Undelivered) as error:
                field = error.field if isinstance(error, BadQuery) else ""
                if is_star:
                    refused = error
                elif field in columns and field not in own:
                    learnt.note_absent(query.detector.name, field)
                    self._mashup.note(f"the archive has no column {field!r} for {query.detector.name}")
                elif refused is not None:
                    raise refused from error
                else:
                    raise
                continue
            if refused is not None:
                learnt.is_star = False
                self._mashup.note(f"the archive does not give all columns at once ({refused}): {KNOWN_INSTEAD}")
            return rows

    async def _noted(self, part: Part, expected: int) -> Rows:
        """Return the first page of a part, and note the first of few rows that does not come."""
        try:
            return await self.page(part, expected)
        except Undelivered:
            if self._failed is None and expected <= MIN_PAGE_ROWS:
                self._failed = part
            raise

    def _control(self, part: Part) -> Part | None:
        """Return which rows show whether the archive gives any, where it gives none of `part`; None: its halves."""
        if self._given is not None:
            return Part(self._given, self._given)
        if self._failed is None:
            return None
        low, high = self._failed
        middle = (low + high) // 2
        return Part(low, middle) if part.low > middle else Part(middle + 1, high)

    def _columns(self) -> tuple[str, ...]:
        place, learnt = self._query.detector, self._mashup.learnt
        first = known.known_names(place) if self._query.columns is None else self._query.columns
        named = self._query.columns or ()
        every = dict.fromkeys([*first, *known.needed(place)])
        return tuple(name for name in every if name in named or not learnt.lacks(place.name, name))

    async def learn_ends(self, whole: Part) -> None:
        """Find out which ends of a range the archive includes, unless that is known."""
        if self._mashup.learnt.ends is not None:
            return
        try:
            rows = await self.page(whole, 1, 1, 1)
        except Undelivered:
            return
        if "id" in rows.columns and any(id_ is not None for id_ in rows.ids()):
            await self._learn_ends(rows)

    async def _learn_ends(self, rows: Rows) -> None:
        """Find out which ends of a range the archive includes, with the help of an id that it has."""
        ids = [id_ for id_ in rows.ids() if id_ is not None]
        one = ids[len(ids) // 2]
        try:
            if await self._mashup.count_as_sent(self._query, one, one):
                self._mashup.learnt.ends = Ends()
                return
            low = one in await self._mashup.ids(self._query, one, one + 1)
            high = one in await self._mashup.ids(self._query, one - 1, one)
            if (low and high) or (
                not (low or high) and one not in await self._mashup.ids(self._query, one - 1, one + 1)
            ):
                return
        except BadQuery:
            return
        self._mashup.learnt.ends = Ends(low, high)
        which = "both ends" if not (low or high) else "the upper end" if low else "the lower end"
        self._mashup.note(f"the archive leaves out {which} of a range: ranges were widened by one")


def _is_split(criteria: Iterable[Criterion], part: Part) -> bool:
    """Return True when a part is sent as a range of ids, not as a list of them."""
    return part != WHOLE and all(c.column != "id" or isinstance(c, Between) for c in criteria)
