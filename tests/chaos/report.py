"""What the runs found: a file for machines, a table for people."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from tests.chaos.faults import Felt


class Run(msgspec.Struct, kw_only=True):
    """`sent`: events, each once; `lost`: acknowledged and not in the lake; `doubled`: more than once in the
    de-duplicated view, or merged more than once; `wrong_fields`: values that are not what the log says,
    and records that are not what was sent. `recovery_s`: the worst, None where one was not reached."""

    seed: int
    broker: str
    faults: list[Felt] = []
    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    dead_letters: int = 0
    spooled_requests: int = 0
    retries: int = 0
    records: int = 0
    lost: int = 0
    doubled: int = 0
    wrong_fields: int = 0
    wrong: dict[str, int] = {}
    examples: dict[str, list[str]] = {}
    recovery_s: float | None = None
    seconds: float = 0.0
    failure: str = ""
    logs: str = ""

    @property
    def passed(self) -> bool:
        reached = all(felt.recovery_s is not None for felt in self.faults)
        return not (self.lost or self.doubled or self.wrong_fields or self.failure) and reached


class Totals(msgspec.Struct, kw_only=True):
    runs: int
    passed: int
    sent: int
    acknowledged: int
    lost: int
    doubled: int
    wrong_fields: int
    recovery_s: float | None


class Report(msgspec.Struct, kw_only=True):
    runs: list[Run]
    totals: Totals


def report(runs: list[Run]) -> Report:
    worst = [run.recovery_s for run in runs]
    return Report(
        runs=runs,
        totals=Totals(
            runs=len(runs),
            passed=sum(run.passed for run in runs),
            sent=sum(run.sent for run in runs),
            acknowledged=sum(run.acknowledged for run in runs),
            lost=sum(run.lost for run in runs),
            doubled=sum(run.doubled for run in runs),
            wrong_fields=sum(run.wrong_fields for run in runs),
            recovery_s=None if None in worst else max(worst, default=None),  # type: ignore[type-var]
        ),
    )


def write(path: Path, runs: list[Run]) -> None:
    """Replaces the file: a reader finds the runs that are over, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(report(runs)), indent=2) + b"\n")
    os.replace(fresh, path)


def table(runs: list[Run]) -> str:
    head = f"{'seed':>8} {'faults':>6} {'sent':>8} {'acked':>8} {'lost':>5} {'doubled':>7} {'wrong':>6}"
    lines = [f"{head} {'recovery':>9}  worst after"]
    for run in runs:
        felt = [it for it in run.faults if it.recovery_s == run.recovery_s]
        lines.append(
            f"{run.seed:>8} {len(run.faults):>6} {run.sent:>8} {run.acknowledged:>8}"
            f" {run.lost:>5} {run.doubled:>7} {run.wrong_fields:>6} {_seconds(run.recovery_s):>9}"
            f"  {run.failure or (felt[0].kind if felt else '')}"
        )
    totals = report(runs).totals
    lines.append(
        f"{totals.passed} of {totals.runs} runs passed: {totals.acknowledged} events acknowledged,"
        f" {totals.lost} lost, {totals.doubled} doubled, {totals.wrong_fields} wrong; the worst"
        f" recovery took {_seconds(totals.recovery_s)}"
    )
    return "\n".join(lines)


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"
