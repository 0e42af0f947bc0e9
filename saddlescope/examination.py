"""What an examination of an installation found: one finding a question, each problem with what to do about it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import StrEnum

from rich.console import Console
from rich.table import Table

from saddlescope.contract.strict import Closed


class Outcome(StrEnum):
    """`problem` is what makes an examination end with exit status 1."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


class Finding(Closed):
    """The answer to one question."""

    check: str
    outcome: Outcome
    detail: str
    remedy: str | None = None


_STYLES = {Outcome.OK: "green", Outcome.WARNING: "yellow", Outcome.PROBLEM: "bold red", Outcome.SKIPPED: "dim"}


def ok(check: str, detail: str) -> Finding:
    return Finding(check=check, outcome=Outcome.OK, detail=detail)


def warning(check: str, detail: str, remedy: str) -> Finding:
    return Finding(check=check, outcome=Outcome.WARNING, detail=detail, remedy=remedy)


def problem(check: str, detail: str, remedy: str) -> Finding:
    return Finding(check=check, outcome=Outcome.PROBLEM, detail=detail, remedy=remedy)


def skipped(check: str, detail: str) -> Finding:
    return Finding(check=check, outcome=Outcome.SKIPPED, detail=detail)


def exit_status(findings: Sequence[Finding]) -> int:
    return int(any(finding.outcome is Outcome.PROBLEM for finding in findings))


def print_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """A table, or one JSON object, on standard output."""
    if as_json:
        told = {
            "object": "examination",
            "healthy": exit_status(findings) == 0,
            "findings": [finding.model_dump(mode="json") for finding in findings],
        }
        sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        text = finding.detail if finding.remedy is None else f"{finding.detail}\n→ {finding.remedy}"
        table.add_row(f"[{_STYLES[finding.outcome]}]{finding.outcome}[/]", finding.check, text)
    Console().print(table)
