"""
Faults: what goes wrong, and with which requests, as data.

The grammar of a fault in text::

    KIND[:VALUE][,KEY=VALUE]...        status:503,nth=3,retry_after=2        reset:at=1000,match=ibc302ioq
                                       truncate:0.5,framing=close,rate=0.01  bundle_drop:members=2,times=1

Text after the colon without ``=`` is the kind's main value (marked * below). Values may be percent-encoded
(``%2C`` is a comma). What each kind does to a request that it chooses:

==================  ========================================================================================
status              *code (503); ``retry_after`` in seconds, any text, or ``date+5``/``date-5`` for an HTTP
                    date; ``body``
html                200 with an HTML error page
text                200 with *body in plain text
empty               200 with no body
truncate            body ends at *at (bytes, or a fraction below 1; 0.5); ``framing``: ``length`` (a
                    Content-Length that is not kept), ``close`` (no length, connection closed), ``chunked``
                    (no final chunk)
wrong_length        Content-Length is off *by (+100), or is this ``text``: the connection ends early, or bytes are
                    left over on it
reset               connection reset (RST) *at that byte of the body; by default before any header
stall               silence for *seconds (3600), then the rest; ``at`` a byte of the body, by default before
                    the headers
slow                body at *bytes_per_s (1000)
slow_head           a header that goes on and on, a line every *seconds (0.1)
wrong_shape         a whole cutout of *size (the asked one less 2)
wrong_source        a whole cutout whose header names another exposure
endless             a body that never ends: itself again and again, or, ``form=zeros``, zeros behind itself
endless_head        a header that never ends, as fast as it can be sent
gzip_bomb           a gzip-encoded body that inflates to *bytes (4e9)
false_gzip          a plain body that calls itself gzip-encoded
redirect            302 to *url, where ``{path}`` and ``{query}`` stand for the request's; by default to
                    itself; ``code`` for another status
close               the connection is closed after the answer, which had not said so
hang_up             the connection is closed without an answer
garbage             bytes that are not HTTP
outage              503 (``code``, ``retry_after``, ``body``): to everything for *seconds from the first
                    request chosen; without seconds, to those chosen
mashup_error        a query answers ``"status": "ERROR"`` with *msg
executing_forever   a query never completes
short_answer        a query's answer holds at most *rows (10) rows and does not tell
bundle_drop         members are left out
bundle_corrupt      members are damaged; *form: ``cut`` (half of one), ``html``, ``text``, ``empty``, ``bits`` (in
                    its header), ``shape``, ``source`` (another's name), ``long`` (bytes behind its end), ``pixel``
                    (one changed: only the stream's checksum tells), or ``stream`` (not members: the gzip stream
                    itself)
bundle_cut          the bundle ends *at (bytes of the compressed stream, or a fraction of its members; 0.5);
                    ``framing``: ``chunked`` (no final chunk) or ``clean`` (as if it were whole)
bundle_foreign      a cutout that nobody asked for is added
bundle_double       members come twice
bundle_evil         a hostile member is added; *form: ``absolute``, ``parent``, ``link``, ``hardlink``,
                    ``device``, ``fifo``, ``nul`` (a device's name), ``huge`` (a terabyte declared)
==================  ========================================================================================

Which requests, all given conditions together (none given: every one):

===========  ===============================================================================================
service      ``file``, ``fitscut``, ``bundle``, ``query``, ``columns`` or ``any``; by default what the kind is
             about
nth          the n-th request of that service, several as ``3+7+9``; counted from 1 since faults were last set
every        every k-th request of that service
first        the first n requests of that service
from, until  requests of that service by number, both ends included
rate         this fraction of URIs, decided by a hash of URI and ``seed``: the same ones at every attempt
times        at most n times for one URI (of a query: one request text), so that a retry succeeds; a bundle counts
             for each of its URIs
match        the URI, or the text of the request, contains this
===========  ===============================================================================================

In Python ``from`` is ``start`` and ``bytes`` is ``inflated_bytes``. For ``bundle_drop``, ``bundle_corrupt``
and ``bundle_double`` the first five conditions choose bundles, while ``rate``, ``times`` and ``match`` choose
among a bundle's URIs, at most ``members`` of them (1 if none of the three is given); a bundle of which they
choose nothing is left to the faults behind.
"""

import math
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

SERVICES: Final = ("any", "file", "fitscut", "bundle", "query", "columns")

_SELECTORS: Final = ("service", "nth", "every", "first", "from", "until", "rate", "times", "match", "seed")

# Kind to its parameters, the main one first
KINDS: Final[dict[str, tuple[str, ...]]] = {
    "status": ("code", "retry_after", "body"),
    "html": (),
    "text": ("body",),
    "empty": (),
    "truncate": ("at", "framing"),
    "wrong_length": ("by", "text"),
    "reset": ("at",),
    "stall": ("seconds", "at"),
    "slow": ("bytes_per_s",),
    "slow_head": ("seconds",),
    "wrong_shape": ("size",),
    "wrong_source": (),
    "endless": ("form",),
    "endless_head": (),
    "gzip_bomb": ("bytes",),
    "false_gzip": (),
    "redirect": ("url", "code"),
    "close": (),
    "hang_up": (),
    "garbage": (),
    "outage": ("seconds", "retry_after", "code", "body"),
    "mashup_error": ("msg",),
    "executing_forever": (),
    "short_answer": ("rows",),
    "bundle_drop": ("members",),
    "bundle_corrupt": ("form", "members"),
    "bundle_cut": ("at", "framing"),
    "bundle_foreign": (),
    "bundle_double": ("members",),
    "bundle_evil": ("form",),
}
_MEMBER_KINDS: Final = ("bundle_drop", "bundle_corrupt", "bundle_double")
_QUERY_KINDS: Final = ("mashup_error", "executing_forever", "short_answer")
_FILE_KINDS: Final = ("wrong_shape", "wrong_source")
_FORMS: Final = {
    "endless": ("again", "zeros"),
    "bundle_corrupt": ("cut", "html", "text", "empty", "bits", "shape", "source", "long", "pixel", "stream"),
    "bundle_evil": ("absolute", "parent", "link", "hardlink", "device", "fifo", "nul", "huge"),
}
_FRAMINGS: Final = {"truncate": ("length", "close", "chunked"), "bundle_cut": ("chunked", "clean")}
_FIELD_OF: Final = {"from": "start", "bytes": "inflated_bytes"}
"""Words of the grammar that cannot be a field's name, or would say too little as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parameters:
    """Everything but the kind; the module's docstring tells what each means."""

    code: int | None = None
    retry_after: str | float | None = None
    body: str = "Internal error"
    at: float | None = None
    framing: str | None = None
    by: int = 100
    text: str | None = None
    seconds: float | None = None
    bytes_per_s: float = 1_000.0
    size: int | None = None
    inflated_bytes: float = 4e9
    url: str | None = None
    msg: str = "Timeout Expired.  The timeout period elapsed prior to completion of the operation."
    rows: int = 10
    members: int | None = None
    form: str | None = None

    service: str | None = None
    nth: tuple[int, ...] | int | None = None
    every: int | None = None
    first: int | None = None
    start: int | None = None
    """``from`` in the text form."""
    until: int | None = None
    rate: float | None = None
    times: int | None = None
    match: str | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Fault(_Parameters):
    """
    One thing that goes wrong: ``Fault("status", code=503, nth=3, retry_after=2)``.

    Raises
    ------
    ValueError
        Where a kind, or a value, does not exist.
    """

    kind: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no fault is called '{self.kind}'; there are {', '.join(KINDS)}")
        _one_of(self.kind, "service", self.service, SERVICES)
        if self.form is not None:
            _one_of(self.kind, "form", self.form, _FORMS.get(self.kind, ()))
        if self.framing is not None:
            _one_of(self.kind, "framing", self.framing, _FRAMINGS.get(self.kind, ()))
        if self.code is not None and not 100 <= self.code <= 999:
            raise ValueError(f"{self.kind}: code must lie in 100..999, not {self.code}")
        if self.rate is not None and not 0 <= self.rate <= 1:
            raise ValueError(f"{self.kind}: rate must lie in 0..1, not {self.rate}")
        for word, number in (("at", self.at), ("seconds", self.seconds), ("bytes_per_s", self.bytes_per_s)):
            if number is not None and not 0 <= number < math.inf:
                raise ValueError(f"{self.kind}: {word} must be a number from 0, not {number}")

    @property
    def about(self) -> str:
        """The service that the fault is about."""
        if self.service is not None:
            return self.service
        if self.kind in _QUERY_KINDS:
            return "query"
        if self.kind in _FILE_KINDS:
            return "file"
        return "bundle" if self.kind.startswith("bundle_") else "any"

    @property
    def picks_members(self) -> bool:
        """Whether it chooses among the URIs of a bundle, not whole bundles."""
        return self.kind in _MEMBER_KINDS and self.form != "stream"

    @property
    def numbers(self) -> tuple[int, ...]:
        """The values of ``nth``, always as a tuple."""
        if self.nth is None:
            return ()
        return (self.nth,) if isinstance(self.nth, int) else self.nth

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """
        Read a fault from its text form.

        Parameters
        ----------
        text
            ``KIND[:VALUE][,KEY=VALUE]...``; the module's docstring holds the grammar.

        Raises
        ------
        ValueError
            Naming what is allowed.
        """
        kind, _, rest = text.strip().partition(":")
        if "," in kind and not rest:  # status,nth=3
            kind, _, rest = text.strip().partition(",")
        if "," in kind:  # status,match=a:b
            kind, _, rest = text.strip().partition(",")
        if kind not in KINDS:
            raise ValueError(f"no fault is called '{kind}'; there are {', '.join(KINDS)}")
        known = (*KINDS[kind], *_SELECTORS)
        values: dict[str, Any] = {}
        for position, part in enumerate(part for part in rest.split(",") if part):
            name, equals, value = part.partition("=")
            if not equals:
                name, value = _main(kind, position, part), part
            if name not in known:
                raise ValueError(f"{kind} knows no '{name}'; it knows {', '.join(known)}")
            values[_FIELD_OF.get(name, name)] = _read(kind, name, unquote(value))
        return cls(kind, **values)


_INTEGERS: Final = {
    "code",
    "by",
    "size",
    "rows",
    "members",
    "every",
    "first",
    "from",
    "until",
    "times",
    "seed",
}
_FLOATS: Final = {"at", "seconds", "bytes_per_s", "bytes", "rate"}


def _main(kind: str, position: int, part: str) -> str:
    if position or not KINDS[kind]:
        raise ValueError(f"{kind}: '{part}' is no KEY=VALUE")
    return KINDS[kind][0]


def _read(kind: str, name: str, value: str) -> Any:
    try:
        if name == "nth":
            return tuple(int(number) for number in value.split("+"))
        if name in _INTEGERS:
            return int(value)
        if name in _FLOATS:
            return float(value)
    except ValueError:
        raise ValueError(f"{kind}: {name} must be a number, not '{value}'") from None
    return value


def _one_of(kind: str, name: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        words = ", ".join(allowed) if allowed else "nothing"
        raise ValueError(f"{kind}: {name} may be {words}, not '{value}'")
