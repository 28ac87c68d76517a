"""Results of checks: verdicts, findings, and what a report holds of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from psfharvest.doctor.reply import Reply

Verdict = Literal["as expected", "differs: adapted", "differs: please report"]
EXPECTED: Verdict = "as expected"
ADAPTED: Verdict = "differs: adapted"
REPORT: Verdict = "differs: please report"


class CheckResult(NamedTuple):
    """What one check found, and the answer that shows it."""

    verdict: Verdict
    words: str
    reply: Reply | None = None


class Check(NamedTuple):
    """One check and its finding."""

    name: str
    finding: CheckResult

    def to_dict(self) -> dict[str, Any]:
        """Return the check as plain values for JSON."""
        verdict, words, reply = self.finding
        evidence = {"asked": "", "status": None, "headers": {}, "body": ""} if reply is None else reply.to_dict()
        return {"name": self.name, **evidence, "verdict": verdict, "words": words}


def expected(words: str, reply: Reply | None) -> CheckResult:
    """Return the finding of a check that came out as expected."""
    return CheckResult(EXPECTED, words, reply)


def adapted(words: str, reply: Reply | None) -> CheckResult:
    """Return the finding of something unexpected that is dealt with."""
    return CheckResult(ADAPTED, words, reply)


def report(words: str, reply: Reply | None) -> CheckResult:
    """Return the finding of something unexpected that is not dealt with."""
    return CheckResult(REPORT, words, reply)


def of_deviations(deviations: Sequence[str], words: str, reply: Reply | None) -> CheckResult:
    """Return that all was as expected, or the deviations that are dealt with."""
    return adapted("; ".join(dict.fromkeys(deviations)), reply) if deviations else expected(words, reply)
