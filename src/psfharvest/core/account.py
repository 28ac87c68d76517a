"""A report as lines of text and as HTML: the same account in the shell, in Python and in a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from psfharvest.core.exit_status import CONTINUES
from psfharvest.core.reasons import remedy

if TYPE_CHECKING:
    from psfharvest.core.model import Report

OTHERS = ("missing", "failed", "pending")


def headline(report: Report, folder: str = "") -> str:
    """Return the account in one line."""
    words = f"{report.done:,} of {report.total:,} cutouts{f' in {folder}' if folder else ''}"
    for state in OTHERS:
        n = getattr(report, state)
        words += f", {n:,} {state}" if n else ""
    return f"{words} ({report.bytes / 1e6:,.1f} MB, {report.elapsed_s:.1f} s)"


def lines(report: Report, folder: str = "") -> list[str]:
    """Return the account in words: what is stored, why the rest is not, how it travelled, and notes."""
    found = []
    if not report.total and report.is_fully_asked and not report.stopped:
        found.append("nothing matches: there was nothing to download")
    found.append(headline(report, folder))
    found += [f"  {n:,} {reason}: {remedy(reason)}" for reason, n in report.reasons.items()]
    found += [f"  {n:,} with quirk {quirk}: stored as they came" for quirk, n in report.quirks.items()]
    if report.via.get("bundles"):
        found.append(
            f"{report.via['bundled_cutouts']:,} came in {report.via['bundles']:,} bundles, "
            f"{report.via['files']:,} requests were for single files: {report.via['why']}"
        )
    return found + list(report.notes)


def text(report: Report) -> str:
    """Return the account for `print`."""
    ending = ["work is left: the same call continues"] if report.exit_status in CONTINUES else []
    return "\n".join(lines(report) + ending)


def html(report: Report) -> str:
    """Return the account for a notebook: counts, reasons, notes."""
    counts = [
        ("done", report.done),
        *((state, getattr(report, state)) for state in OTHERS),
        ("total", report.total),
    ]
    rows = "".join(f"<tr><th>{name}</th><td style='text-align:right'>{n:,}</td></tr>" for name, n in counts)
    rest = "<br>".join(escape(line.strip()) for line in text(report).splitlines())
    return f"<div><table>{rows}</table><p>{rest}</p></div>"
