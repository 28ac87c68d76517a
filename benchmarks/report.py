"""
The report: one JSON with every figure, and the same as tables to read.

The law: a figure that is not there is said to be missing and why; medians come with the lowest and the highest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.measure import Series
from benchmarks.table import CURL, CURL_AND_TAR, TARGETS, Outcome, Target, ratio

Plain = dict[str, Any]
_MISSING = "-"


def outcome(found: Outcome) -> Plain:
    """
    Return a scenario's figures as plain values.

    Parameters
    ----------
    found
        What it gave.
    """
    reference = next((one for one in found.series if one.client.name in (CURL, CURL_AND_TAR)), None)
    return {
        "name": found.scenario.name,
        "title": found.scenario.title,
        "server": found.server,
        "place": found.place,
        "write_mb_per_s": round(found.write_mb_per_s),
        "connections": found.scenario.connections,
        "file_cost": _file_cost(found.series),
        "clients": [_client(one, reference) for one in found.series],
        "absent": found.absent,
    }


def targets(outcomes: Sequence[Outcome]) -> list[Plain]:
    """
    Return the ratios to reach and those that were reached.

    Parameters
    ----------
    outcomes
        Of all scenarios that were run; targets of others are left out.
    """
    by_name = {found.scenario.name: found for found in outcomes}
    return [_target(target, by_name[target.scenario]) for target in TARGETS if target.scenario in by_name]


def text(report: Mapping[str, Any]) -> str:
    """
    Return a report as Markdown.

    Parameters
    ----------
    report
        As written to JSON.
    """
    parts = [_head(report)]
    parts += [_outcome_text(found) for found in report.get("scenarios", ())]
    if report.get("startup"):
        parts.append(_facts("Start-up", report["startup"]))
    if report.get("query"):
        parts.append(_facts("A query", report["query"]))
    if report.get("astroquery"):
        parts.append(_facts("One answer of the catalogue as CSV, beside astroquery", report["astroquery"]))
    if report.get("targets"):
        parts.append(_targets_text(report["targets"]))
    if report.get("scale"):
        parts.append(_scale_text(report["scale"]))
    if report.get("soak"):
        parts.append(_facts("Soak: one answer in a hundred is bad", report["soak"]["facts"]))
    return "\n\n".join(parts) + "\n"


def _client(one: Series, reference: Series | None) -> Plain:
    spread = one.spread
    return {
        "name": one.client.name,
        "version": one.client.version,
        "small": one.pairs[0].small.n,
        "large": one.pairs[0].large.n,
        "per_s": _rounded(one.per_s, 1),
        "lowest_per_s": _rounded(spread and spread[0], 1),
        "highest_per_s": _rounded(spread and spread[1], 1),
        "cpu_s_per_1000": _rounded(one.per_cpu_s and 1000 / one.per_cpu_s, 4),
        "peak_mb": _rounded(one.peak_bytes and one.peak_bytes / 1e6, 1),
        "server_load": _rounded(one.server_load, 2),
        "rate_to_curl": _rounded(_quotient(one.per_s, reference.per_s if reference else None), 2),
        "faults": one.faults,
    }


def _file_cost(series: Sequence[Series]) -> Plain | None:
    """Return what a file costs `curl --parallel` in this place: no ratio to curl means anything without it."""
    curl = next((one for one in series if one.client.name == CURL and one.per_s), None)
    if curl is None or curl.spread is None:
        return None
    cost = {"median_us": curl.per_s, "lowest_us": curl.spread[1], "highest_us": curl.spread[0]}
    return {name: _rounded(_quotient(1e6, per_s), 0) for name, per_s in cost.items()}


def _target(target: Target, found: Outcome) -> Plain:
    reached = ratio(target, found)
    return {
        "scenario": target.scenario,
        "ours": target.ours,
        "versus": target.versus,
        "unit": target.unit,
        "wanted": target.wanted,
        "reached": _rounded(reached, 2),
        "is_met": None if reached is None else reached >= target.wanted,
    }


def _head(report: Mapping[str, Any]) -> str:
    where = report["machine"]
    facts = f"{where['processor']}, {where['cores']} cores, {where['memory_gb']} GB, {where['system']}"
    share = "a core each for server and client" if where["cores"] > 1 else "server and client on one core"
    words = [f"{facts}, Python {where['python']}; {share}. A {report['effort']} run."]
    if report.get("scenarios"):
        words.append(f"Medians of {report['rounds']} rounds. Rates are marginal: nobody's start-up counts.")
    words.append("CPU is the client's; memory is its peak, all processes added up.")
    return f"# Benchmarks, {report['when'][:10]}\n\n{' '.join(words)}"


def _outcome_text(found: Mapping[str, Any]) -> str:
    head = f"## {found['title']}\n\nServer: {found['server']}. Stored on {found['place']}, which takes "
    head += f"{found['write_mb_per_s']:,} MB/s durably."
    if cost := found.get("file_cost"):
        head += f" A file costs curl {cost['median_us']:.0f} µs here "
        head += f"({cost['lowest_us']:.0f} to {cost['highest_us']:.0f})."
    if found["absent"]:
        head += f" Not installed: {', '.join(found['absent'])}."
    columns = ("client", "cutouts/s", "(lowest to highest)", "to curl", "CPU s/1,000", "peak MB", "server's core")
    faults = [f"* {one['name']}: {fault}" for one in found["clients"] for fault in one["faults"]]
    return "\n\n".join(filter(None, (head, _table(columns, map(_client_row, found["clients"])), "\n".join(faults))))


def _client_row(one: Mapping[str, Any]) -> list[str]:
    spread = [_number(rate) for rate in (one["lowest_per_s"], one["highest_per_s"]) if rate is not None]
    load = _MISSING if one["server_load"] is None else f"{one['server_load']:.0%}"
    name = f"{one['name']} ({one['version']})"
    figures = [_number(one["rate_to_curl"], 2), _number(one["cpu_s_per_1000"], 3), _number(one["peak_mb"])]
    return [name, _number(one["per_s"]), " to ".join(spread) or _MISSING, *figures, load]


def _targets_text(found: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for one in found:
        versus = one["versus"] if isinstance(one["versus"], str) else f"{one['versus']:,.0f}/s"
        versus += " of a core" if one["unit"] == "per_cpu_s" else ""
        verdict = {True: "yes", False: "no", None: "not measured"}[one["is_met"]]
        what = f"{one['ours']} against {versus}"
        rows.append([one["scenario"], what, f"{one['wanted']:g}", _number(one["reached"], 2), verdict])
    columns = ("where", "ratio", "to reach", "reached", "met")
    return f"## To reach\n\n{_table(columns, rows)}"


def _scale_text(found: Mapping[str, Any]) -> str:
    points = [
        [
            one["client"],
            *(_number(one["n"]), _number(one["wall_s"], 1), _number(one["cpu_s_per_1000"], 3)),
            *(_number(one["peak_mb"], 1), _number(one["manifest_bytes_per_cutout"]), one["fault"] or "none"),
        ]
        for one in found["points"]
    ]
    columns = ("client", "cutouts", "wall s", "CPU s/1,000", "peak MB", "manifest bytes a cutout", "faults")
    head = f"## Scale\n\nServer: {found['server']}. Stored on {found['place']}. One run each, start-up included."
    return f"{head}\n\n{_table(columns, points)}\n\n{_list(found['facts'])}"


def _facts(title: str, found: Mapping[str, Any]) -> str:
    return f"## {title}\n\n{_list(found)}"


def _list(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"* {key}: {_fact(value)}" for key, value in facts.items())


def _fact(value: Any) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _table(columns: Sequence[str], rows: Any) -> str:
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, digits: int = 0) -> str:
    return _MISSING if value is None else f"{value:,.{digits}f}"


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _quotient(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None
