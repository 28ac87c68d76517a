"""
Every way in which an answer for a cutout can be wrong, as rows; what a harvest makes of each, exactly.

The rows are those of PROTOCOL 1.5 and 3 and of the complaints about peers: broken transfers, lies about length,
error pages that call themselves cutouts, other cutouts, floods, statuses, ``Retry-After``, redirects, dead
connections, spoiled and hostile bundles. Each row is one fault of the simulator's. It befalls one cutout (by file)
or the bundle that holds it, in up to three tempers: ``once``; ``always`` on this way; or ``everywhere``, in bundles
and by file. A fault that never ends by itself uses up `ATTEMPTS`: by file all of them, or two where it is the same
whole answer twice; by bundle two bundles and then one request for the cutout alone.

What stops a whole run (no name, no connection, no TLS, an outage, an absurd ``Retry-After``) is in
``test_fault_stops.py``; what befalls a query is there, too.

Clocks: whatever waits or measures here goes by a monotonic clock, so that a wall clock that jumps moves no
deadline, no pause and no back-off. ``test_clocks.py`` holds what the wall clock is read for at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from harness import slowness
from psfharvest.simulator import Fault

ATTEMPTS = 3
FILE, BUNDLE = ("file",), ("bundle",)
BOTH = ("file", "bundle")
ONCE, ALWAYS, EVERYWHERE = "once", "always", "everywhere"
TEMPERS = (ONCE, ALWAYS, EVERYWHERE)

OFF = "Some image dimensions are negative for all planes"
"""fitscut's words for a cutout that lies off the detector."""


@dataclass(frozen=True)
class End:
    """What becomes of the cutout that the fault is about."""

    state: str = "done"
    attempts: int = 1
    reason: str | None = None
    """What stands in the manifest."""
    retried: frozenset[str] = frozenset()
    """The reasons of transient trouble in the report, exactly."""
    requests: int | None = None
    """How often the archive was asked for it, where that is more than the attempts."""


@dataclass(frozen=True)
class Row:
    """One fault."""

    name: str
    fault: Fault | None
    ends: dict[tuple[str, str], End] = field(hash=False)
    """By way and temper."""
    may_resend: bool = False
    """A kept connection dies without a byte: libcurl sends the request again by itself, once, and it is charged."""
    besides: frozenset[str] = frozenset()
    """Trouble that a cutout beside it may meet, on the connection that this one has ruined."""
    timeout_s: float = 30.0
    total_timeout_s: float = 60.0
    """Deadlines; where only one of them ends the row, it is short, and the row is run beside the others."""
    size_px: int = 21
    """Side of its cutouts."""
    waits_s: float = 0.0
    """The archive asks to be left alone for at least so long."""
    own: str = "good"
    """Which cutout is asked for: a ``good`` one, one of an exposure that is ``absent``, or one ``off`` it."""

    def ends_by(self, way: str) -> list[End]:
        """Return the ends of one way."""
        return [end for (its_way, _), end in self.ends.items() if its_way == way]

    @property
    def is_slow(self) -> bool:
        """Whether it mostly waits."""
        return self.waits_s > 0 or self.timeout_s != Row.timeout_s or self.total_timeout_s != Row.total_timeout_s


@dataclass(frozen=True)
class Case:
    """One row, by one way, in one temper."""

    row: Row
    way: str
    temper: str

    @property
    def end(self) -> End:
        """What is expected."""
        return self.row.ends[self.way, self.temper]

    @property
    def name(self) -> str:
        """How the case is called."""
        return f"{self.row.name}, {self.temper}"

    def faults(self, mark: str) -> list[Fault]:
        """Return the faults that befall the cutout whose dataURI holds `mark`, and no other."""
        if self.row.fault is None:
            return []
        services = BOTH if self.temper == EVERYWHERE else (self.way,)
        times = 1 if self.temper == ONCE else None
        return [
            replace(_on(self.row.fault, service), service=service, match=mark, times=times) for service in services
        ]


_BY_FILE = {
    "cut": Fault("truncate"),
    "empty": Fault("empty"),
    "shape": Fault("wrong_shape"),
    "source": Fault("wrong_source"),
}


def _on(fault: Fault, service: str) -> Fault:
    """Return the fault, or for one that only bundles can have what stands for it by file."""
    if service == "bundle" or not fault.kind.startswith("bundle_"):
        return fault
    return _BY_FILE.get(fault.form or "", Fault("html"))


def transient(
    name: str,
    fault: Fault,
    reason: str,
    *,
    ways: Collection[str] = BOTH,
    tempers: Collection[str] = TEMPERS,
    in_bundle: str = "",
    hops: int = 1,
    **more: object,
) -> Row:
    """
    Give a row of a fault that is tried again: it passes, or it uses up the attempts.

    Parameters
    ----------
    name, fault, reason
        The row, and what a single file's failure is called.
    ways, tempers
        Where it makes sense.
    in_bundle
        What a bundle's failure is called, if otherwise.
    hops
        Requests that one attempt makes, where the archive redirects.
    """
    alone, bundled = frozenset({reason}), frozenset({in_bundle or reason})
    ends = {
        ("file", ONCE): End("done", 2, retried=alone),
        ("file", ALWAYS): End("failed", ATTEMPTS, reason, alone, ATTEMPTS * hops),
        ("bundle", ONCE): End("done", 2, retried=bundled),
        ("bundle", ALWAYS): End("done", 3, retried=bundled, requests=2 * hops + 1),
        ("bundle", EVERYWHERE): End("failed", ATTEMPTS, reason, bundled, ATTEMPTS * hops),
    }
    return Row(name, fault, {k: end for k, end in ends.items() if k[0] in ways and k[1] in tempers}, **more)


def refusal(name: str, fault: Fault, reason: str, **more: object) -> Row:
    """Give a row of a whole answer that is the same each time: by file the second one is final."""
    row = transient(name, fault, reason, **more)
    return replace(row, ends=row.ends | {("file", ALWAYS): End("failed", 2, reason, frozenset({reason}))})


def half(name: str, fault: Fault, reason: str, **more: object) -> Row:
    """
    Give a row of a transfer that breaks half way.

    Of a bundle some cutouts arrive then, so that which ones are left for the next time is a matter of order.
    """
    row = transient(name, fault, reason, **more)
    return replace(row, ends={k: end for k, end in row.ends.items() if k[0] == "file" or k[1] == ONCE})


def final(name: str, fault: Fault, state: str, reason: str) -> Row:
    """Give a row of an answer by file that is believed at once: no second request, though it would be good."""
    end = End(state, 1, reason)
    return Row(name, fault, {("file", ONCE): end, ("file", ALWAYS): end})


def declined(name: str, fault: Fault, by_file: End) -> Row:
    """Give a row of an archive that makes no bundles: that is charged to no cutout, and files are asked for."""
    done = End("done", 1, requests=2)
    by_file = replace(by_file, requests=by_file.attempts + 1)
    ends = {("bundle", ONCE): done, ("bundle", ALWAYS): done, ("bundle", EVERYWHERE): by_file}
    return Row(name, fault, ends)


def harmless(name: str, fault: Fault, ways: Collection[str] = BOTH, **more: object) -> Row:
    """Give a row of what looks odd and does no harm: one request is enough."""
    return Row(name, fault, {(way, ALWAYS): End() for way in ways}, **more)


def loop(name: str, code: int) -> Row:
    """Give a row of a redirect to itself: once it is followed and does no harm, always it is given up."""
    row = transient(name, Fault("redirect", code=code), "redirect", hops=6)
    return replace(row, ends=row.ends | {(way, ONCE): End(requests=2) for way in BOTH})


SILENT = {"timeout_s": 3.0 * slowness(), "total_timeout_s": 30.0 * slowness()}
DROPS = {"total_timeout_s": 3.0 * slowness()}
RUINED = frozenset({"reset", "protocol"})

BROKEN = [
    transient("reset before a byte", Fault("reset"), "reset", may_resend=True),
    transient("reset behind the header", Fault("reset", at=0), "reset"),
    transient("reset at byte 1", Fault("reset", at=1), "reset"),
    half("reset half way", Fault("reset", at=0.5), "reset"),
    transient("reset behind the last byte", Fault("reset", at=1e9), "reset", ways=FILE),
    transient("closed without a byte", Fault("hang_up"), "reset", may_resend=True),
    transient("no HTTP", Fault("garbage"), "protocol"),
    transient("header without end", Fault("endless_head"), "protocol"),
    transient("stall before a byte", Fault("stall"), "timeout", **SILENT),
    transient("stall behind the header", Fault("stall", at=0), "timeout", **SILENT),
    half("stall half way", Fault("stall", at=0.5), "timeout", **SILENT),
    transient("header in drops", Fault("slow_head"), "timeout", tempers=[ONCE], **DROPS),
    transient("body in drops", Fault("slow", bytes_per_s=100), "timeout", tempers=[ONCE], **DROPS),
    harmless("a short stall", Fault("stall", seconds=0.1, at=0.5)),
    harmless("closed behind the answer", Fault("close"), besides=RUINED),
]
"""Transfers that break, stop, or dawdle."""

LENGTHS = [
    transient("no byte of those announced", Fault("truncate", at=0), "truncated"),
    transient("cut within its header", Fault("truncate", at=0.1), "truncated"),
    half("cut half way", Fault("truncate", at=0.5), "truncated"),
    transient("cut one byte before its end", Fault("truncate", at=0.9999), "truncated", ways=FILE),
    transient("nothing, no length", Fault("truncate", at=0, framing="close"), "empty", in_bundle="not_in_bundle"),
    transient("cut within its header, no length", Fault("truncate", at=0.1, framing="close"), "truncated"),
    half("cut half way, no length", Fault("truncate", at=0.5, framing="close"), "truncated"),
    half("cut half way, in chunks", Fault("truncate", at=0.5, framing="chunked"), "truncated"),
    transient(
        "whole, without its last chunk", Fault("truncate", at=1e9, framing="chunked"), "truncated", ways=FILE
    ),
    harmless("whole, no length", Fault("truncate", at=1e9, framing="close"), besides=RUINED),
    transient("length too large", Fault("wrong_length", by=100), "truncated", ways=FILE),
    transient("length too small", Fault("wrong_length", by=-100), "truncated", ways=FILE, besides=RUINED),
    transient(
        "length 0",
        Fault("wrong_length", text="0"),
        "empty",
        in_bundle="not_in_bundle",
        besides=RUINED,
    ),
    transient("negative length", Fault("wrong_length", text="-5"), "protocol"),
    transient("length that is no number", Fault("wrong_length", text="many"), "protocol"),
    transient("bundle cut behind its cutouts", Fault("truncate", at=0.9999), "truncated", ways=BUNDLE),
    harmless("bundle's length too large", Fault("wrong_length", by=100), BUNDLE),
    transient("bundle's length too small", Fault("wrong_length", by=-9), "truncated", ways=BUNDLE, besides=RUINED),
]
"""Bodies that are shorter or longer than they say, or say nothing."""

CONTENTS = [
    refusal("an HTML page", Fault("html"), "html_page", in_bundle="truncated"),
    refusal(
        "a text",
        Fault("text", body="dataset parameter is required"),
        "text_page",
        in_bundle="truncated",
    ),
    refusal(
        "JSON",
        Fault("text", body='{"status":"ERROR","msg":""}'),
        "text_page",
        in_bundle="truncated",
    ),
    refusal(
        "bytes of no kind",
        Fault("text", body="\x00\x01\u0100" * 50),
        "not_fits",
        in_bundle="truncated",
    ),
    transient("an empty answer", Fault("empty"), "empty", in_bundle="not_in_bundle"),
    transient("204", Fault("status", code=204), "empty", in_bundle="http_error"),
    refusal("another shape", Fault("wrong_shape"), "wrong_shape", ways=FILE),
    refusal("a larger shape", Fault("wrong_shape", size=31), "wrong_shape", ways=FILE),
    refusal("another exposure's cutout", Fault("wrong_source"), "wrong_source", ways=FILE),
    transient("itself without end", Fault("endless"), "too_large", ways=FILE),
    transient("zeros without end", Fault("endless", form="zeros"), "too_large", ways=FILE),
    transient("a gzip bomb", Fault("gzip_bomb", inflated_bytes=5e7), "too_large", in_bundle="not_in_bundle"),
    transient("plain, called gzip", Fault("false_gzip"), "protocol", ways=FILE),
    final("off the detector, 200", Fault("text", body=OFF), "missing", "off_detector"),
    final("off the detector, 404", Fault("status", code=404, body=OFF), "missing", "off_detector"),
    final("off the detector, 500", Fault("status", code=500, body=OFF), "missing", "off_detector"),
]
"""Answers that hold something else, whatever their status says."""

_ODD = frozenset({"http_error"})
STATUSES = [
    final("404", Fault("status", code=404), "missing", "not_found"),
    final("410", Fault("status", code=410), "missing", "not_found"),
    final("401", Fault("status", code=401), "failed", "unauthorized"),
    final("403", Fault("status", code=403), "failed", "forbidden"),
    *(refusal(f"{n}", Fault("status", code=n), "http_error", ways=FILE) for n in (304, 400, 405, 413)),
    refusal("418", Fault("status", code=418), "http_error"),
    refusal("500", Fault("status", code=500), "server_error"),
    transient("503", Fault("status", code=503), "server_error"),
    *(transient(f"{n}", Fault("status", code=n), "server_error", tempers=[ONCE]) for n in (502, 504, 520)),
    transient("429", Fault("status", code=429), "rate_limited", waits_s=0.9),
    declined("401 for bundles", Fault("status", code=401), End("failed", 1, "unauthorized")),
    declined("403 for bundles", Fault("status", code=403), End("failed", 1, "forbidden")),
    declined("404 for bundles", Fault("status", code=404), End("missing", 1, "not_found")),
    declined("405 for bundles", Fault("status", code=405), End("failed", 2, "http_error", _ODD)),
    declined("413 for bundles", Fault("status", code=413), End("failed", 2, "http_error", _ODD)),
]
"""Statuses."""

WAITS = [
    transient(
        f"{code}, Retry-After: {text}",
        Fault("status", code=code, retry_after=text),
        reason,
        tempers=[ONCE],
        waits_s=wait_s,
    )
    for code, reason in ((429, "rate_limited"), (503, "server_error"))
    for text, wait_s in (
        ("1", 0.9),
        ("date+2", 0.9),
        ("0", 0.0),
        ("date-3600", 0.0),
        ("-5", 0.0),
        ("soon", 0.0),
    )
]
"""``Retry-After`` in both forms, over already, and as nonsense, which asks for nothing."""

REDIRECTS = [
    loop("308 to itself", 308),
    loop("307 to itself", 307),
    transient("302 to itself", Fault("redirect"), "redirect", ways=FILE, tempers=[ALWAYS], hops=6),
    transient("redirect to nowhere", Fault("redirect", url=""), "redirect"),
    transient("redirect to plain http elsewhere", Fault("redirect", url="http://example.com{path}"), "redirect"),
    transient("redirect to a file", Fault("redirect", url="file:///etc/passwd"), "redirect"),
    transient("redirect to no URL", Fault("redirect", url="http://["), "redirect"),
]
"""Redirects that are not followed, or not for ever."""


def _absent(name: str, own: str, reason: str) -> Row:
    bundled = End("missing", 3, reason, frozenset({"not_in_bundle"}))
    return Row(name, None, {("file", ALWAYS): End("missing", 1, reason), ("bundle", ALWAYS): bundled}, own=own)


ABSENT = [
    _absent("an exposure that is not there", "absent", "not_found"),
    _absent("a cutout off the detector", "off", "off_detector"),
]
"""What a healthy archive does not have."""


def _member(name: str, form: str, reason: str, by_file: str = "") -> Row:
    fault = Fault("bundle_corrupt", form=form)
    return transient(name, fault, by_file or reason, ways=BUNDLE, in_bundle=reason)


_HOSTILE = ("absolute", "parent", "link", "hardlink", "device", "fifo", "nul")
BUNDLES = [
    transient("a member left out", Fault("bundle_drop"), "html_page", ways=BUNDLE, in_bundle="not_in_bundle"),
    _member("a member cut", "cut", "truncated"),
    _member("a member that is HTML", "html", "html_page"),
    _member("a member that is text", "text", "text_page", "html_page"),
    _member("a member of no bytes", "empty", "empty"),
    _member("a member with a broken header", "bits", "not_fits", "html_page"),
    _member("a member of another shape", "shape", "wrong_shape"),
    _member("a member of another exposure", "source", "wrong_source"),
    _member("a member with bytes behind", "long", "trailing_bytes", "html_page"),
    _member("the stream damaged", "stream", "truncated", "html_page"),
    replace(_member("a changed pixel", "pixel", "truncated", "html_page"), size_px=201),
    half("a bundle cut", Fault("bundle_cut", at=0.5), "truncated", ways=BUNDLE),
    half("a bundle that ends early", Fault("bundle_cut", at=0.5, framing="clean"), "not_in_bundle", ways=BUNDLE),
    harmless("a bundle again and again", Fault("endless"), BUNDLE),
    harmless("zeros without end behind a bundle", Fault("endless", form="zeros"), BUNDLE),
    harmless("a bundle called gzip twice", Fault("false_gzip"), BUNDLE),
    harmless("a foreign member", Fault("bundle_foreign"), BUNDLE),
    harmless("a doubled member", Fault("bundle_double"), BUNDLE),
    transient(
        "a hostile member that never ends",
        Fault("bundle_evil", form="huge"),
        "html_page",
        ways=BUNDLE,
        in_bundle="truncated",
    ),
    *(harmless(f"a hostile member: {form}", Fault("bundle_evil", form=form), BUNDLE) for form in _HOSTILE),
]
"""What only a bundle can have."""

ROWS = [*BROKEN, *LENGTHS, *CONTENTS, *STATUSES, *WAITS, *REDIRECTS, *ABSENT, *BUNDLES]


def cases(way: str) -> Iterator[Case]:
    """Yield every case of one way."""
    for row in ROWS:
        for its_way, temper in row.ends:
            if its_way == way:
                yield Case(row, way, temper)
