"""Events as sentences for people, with the level of a log record; and as plain values for JSON."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from psfharvest.core.model import Report
from psfharvest.core.reasons import remedy
from psfharvest.events import model
from psfharvest.events.model import Event

TIMES = frozenset({"at", "since", "until", "gives_up_at"})
"""Fields that are seconds since 1970."""


class Sentence(NamedTuple):
    """An event, or part of one, in words."""

    level: int
    words: str


class Narrator:
    """Put events into words; the first of each reason in a run is a sentence of its own."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, str, str]] = set()

    def sentences(self, event: Event) -> list[Sentence]:
        """Return what there is to say of an event, the most important first."""
        said = self._first_of_each_reason(event)
        said.append(
            Sentence(_level(event), encodable(_of_the_archive(event) or _of_answers(event) or _of_a_run(event)))
        )
        if isinstance(event, model.Ended):
            self._seen = {seen for seen in self._seen if seen[0] != event.run}
        return said

    def _first_of_each_reason(self, event: Event) -> list[Sentence]:
        if isinstance(event, model.Settled):
            new = [(reason, uri) for reason, uri in event.examples.items() if self._is_new(event, reason)]
            return [Sentence(logging.WARNING, f"first {reason}: {uri} ({remedy(reason)})") for reason, uri in new]
        if isinstance(event, model.Retried) and self._is_new(event, event.reason):
            return [Sentence(logging.INFO, f"first {event.reason} that is tried again: {event.example}")]
        return []

    def _is_new(self, event: Event, reason: str) -> bool:
        key = (event.run, type(event).__name__, reason)
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new


def plain(event: Event) -> dict[str, Any]:
    """Return an event as plain values for JSON: its name under ``event``, times in ISO 8601, UTC."""
    fields = {name: _plain(name, value) for name, value in zip(event._fields, event, strict=True)}
    return {"event": type(event).__name__, **fields}


def encodable(text: str) -> str:
    """Return a text without the surrogates of a file name that is no UTF-8: SQLite and JSON readers refuse them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def iso(at: float) -> str:
    """Return a time in ISO 8601, UTC, to the millisecond."""
    if at == math.inf:
        return "further notice"
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(name: str, value: Any) -> Any:
    if name in TIMES:
        return iso(value)
    if isinstance(value, Report):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str):
        return encodable(value)
    return list(value) if isinstance(value, tuple) else value


def _level(event: Event) -> int:
    if isinstance(event, model.Started | model.Ended | model.Down | model.Up | model.Switched | model.TakenBack):
        return logging.INFO
    if isinstance(event, model.Paused) or (isinstance(event, model.Throttled) and event.after < event.before):
        return logging.WARNING
    return logging.INFO if isinstance(event, model.Resumed) else logging.DEBUG


def _of_the_archive(event: Event) -> str:
    match event:
        case model.Throttled(before=before, after=after, why=why):
            return f"{after} connections instead of {before}: {why}"
        case model.Paused(until=until, why=why):
            return f"paused until {iso(until)}: {why}"
        case model.Resumed(after_s=after_s):
            return f"resumed after a pause of {after_s:.1f} s"
        case model.Down(why=why, gives_up_at=gives_up_at):
            return f"the archive is down, trying until {iso(gives_up_at)}: {why}"
        case model.Up(after_s=after_s):
            return f"the archive answers again after {after_s:.1f} s"
    return ""


def _of_answers(event: Event) -> str:
    match event:
        case model.Switched(before=before, after=after, why=why):
            return f"cutouts travel by {after} instead of {before}: {why}"
        case model.Queried(question=question, detector=detector, n=n, elapsed_s=elapsed_s):
            return f"{detector} {question}: {n:,} in {elapsed_s:.2f} s"
        case model.Bundled(n=n, n_whole=n_whole, elapsed_s=elapsed_s, reason=reason):
            how = f", ended by: {reason}" if reason else ""
            return f"bundle: {n_whole:,} of {n:,} cutouts in {elapsed_s:.2f} s{how}"
        case model.Delivered(by=by, done=done, missing=missing, failed=failed):
            return f"{by}: {done:,} done, {missing:,} missing, {failed:,} failed"
    return ""


def _of_a_run(event: Event) -> str:
    match event:
        case model.Started(run=run, folder=folder, archive=archive, pending=pending, connections=connections):
            return f"run {run} over {folder} begins: {pending:,} pending, {archive}, {connections} connections"
        case model.Ended(run=run, report=report):
            how = f"stopped ({report.stopped})" if report.stopped else "ended"
            return (
                f"run {run} {how} after {report.elapsed_s:,.1f} s and {report.requests:,} requests: "
                f"{report.done:,} of {report.total:,} done, {report.missing:,} missing, {report.failed:,} failed, "
                f"{report.pending:,} pending"
            )
        case model.Asked(n=n, n_new=n_new):
            return f"asked for {n:,} cutouts, {n_new:,} of them new"
        case model.Settled(done=done, missing=missing, failed=failed, bytes=size_bytes):
            return f"settled: {done:,} done ({size_bytes / 1e6:,.1f} MB), {missing:,} missing, {failed:,} failed"
        case model.Retried(n=n, reason=reason, delay_s=delay_s, example=example):
            return f"{n:,} {reason}, tried again within {delay_s:.1f} s, for example {example}"
        case model.TakenBack(n=n, reason=reason):
            return f"{n:,} {reason or 'done'} pending again"
        case model.Pulse(progress=progress, per_second=per_second):
            settled = progress.tally.total - progress.tally.pending
            return f"{settled:,} settled, {per_second:.1f}/s, {progress.in_flight} in flight"
    raise TypeError(f"{event!r} is no event")
