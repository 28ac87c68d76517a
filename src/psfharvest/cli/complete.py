"""Shell completion of detectors, criteria, columns and suffixes; the shells' own part is click's."""

from __future__ import annotations

from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem


def detectors(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the detectors that begin so."""
    del ctx, param
    from psfharvest.core.catalog.detectors import DETECTORS  # noqa: PLC0415 - keeps other commands quick

    return _beginning(incomplete.upper(), [*DETECTORS])


def criteria(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return criteria that begin so: columns of the detector, then values of the column."""
    words = [ctx.params.get("detector") or "", *(ctx.params.get(param.name or "") or ())]
    return _criteria(words[0], words[1:], incomplete)


def words(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return a detector, then criteria."""
    given = list(ctx.params.get(param.name or "") or ())
    return _criteria(given[0], given[1:], incomplete) if given else detectors(ctx, param, incomplete)


def columns(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return a list of columns whose last one begins so."""
    del param
    before, comma, last = incomplete.rpartition(",")
    return _beginning(last, _columns(_detector(ctx)), prefix=before + comma)


def suffixes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return a list of suffixes whose last one begins so."""
    del param
    from psfharvest.core.catalog.detectors import DETECTORS, SUFFIX_MEANING  # noqa: PLC0415

    before, comma, last = incomplete.rpartition(",")
    detector = DETECTORS.get(_detector(ctx).upper())
    return _beginning(last, detector.suffixes if detector else [*SUFFIX_MEANING], prefix=before + comma)


def _detector(ctx: click.Context) -> str:
    words = ctx.params.get("words") or ()
    return str(ctx.params.get("detector") or (words[0] if words else ""))


def _criteria(detector: str, before: Sequence[str], incomplete: str) -> list[CompletionItem]:
    column, equals, typed = incomplete.partition("=")
    prefix = column + equals
    if before and before[-1] == "=":  # bash takes column=value apart
        column, equals, typed, prefix = (before[-2] if len(before) > 1 else ""), "=", incomplete, ""
    elif incomplete == "=":
        column, equals, typed, prefix = (before[-1] if before else ""), "=", "", ""
    if not equals:
        return _beginning(column, [f"{name}=" for name in _columns(detector)])
    values_before, comma, last = typed.rpartition(",")
    return _beginning(last, _values(detector, column), prefix=prefix + values_before + comma)


def _columns(detector: str) -> list[str]:
    from psfharvest.core.catalog.columns import COLUMNS  # noqa: PLC0415
    from psfharvest.core.catalog.detectors import DETECTORS  # noqa: PLC0415

    name = detector.strip().upper()
    return [column.name for column in COLUMNS.values() if name in column.only or name not in DETECTORS]


def _values(detector: str, column: str) -> list[str]:
    from psfharvest.core.catalog.detectors import DETECTORS  # noqa: PLC0415
    from psfharvest.core.catalog.values import values_of  # noqa: PLC0415

    place = DETECTORS.get(detector.strip().upper())
    return [*values_of(column, place)] if place is not None else []


def _beginning(typed: str, values: Sequence[str], prefix: str = "") -> list[CompletionItem]:
    return [CompletionItem(prefix + value) for value in values if value.lower().startswith(typed.lower())]
