"""What became of the items, or of the events, of an import: counts, findings, and both as text and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from infra.apps.bulk_import.findings import Findings, Refusals
from infra.client.history import Summary

MAX_SHOWN: Final = 10
"""Kinds of refused lines in a summary for people; in JSON all are."""
OVER_LIMIT_PENDING: Final = (
    "  how many of those came after the limit of a partition and day, so that they never count, is not known"
    " yet: unknown_over_limit in `freshet status`"
)


@dataclass
class Outcome:
    """`sent`: what went out (of a dry run: what would). `already_sent`: lines that an earlier import sent.
    `actions`: of a dry run, accepted events by action."""

    findings: Findings
    sent: Summary = field(default_factory=Summary)
    read: int = 0
    already_sent: int = 0
    dry_run: bool = False
    stopped: bool = False
    actions: Counter[str] = field(default_factory=Counter)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        it = self.sent
        return {
            "read": self.read,
            "sent": it.sent,
            "accepted": it.accepted,
            "already_sent": self.already_sent,
            "duplicates": it.duplicates,
            "unknown_items": it.unknown_items,
            "unknown_over_limit": it.unknown_over_limit,
            "retries": it.retries,
            "seconds": round(it.seconds, 3),
            "per_second": round(it.per_second, 1),
            "dry_run": self.dry_run,
            "stopped": self.stopped,
            **self.findings.plain(),
            "positions": [f"{at}:{offset}" for at, offset in sorted(it.positions.items())],
            **({"actions": dict(self.actions)} if self.dry_run else {}),
        }

    def text(self, name: str) -> Iterator[str]:
        """Lines for people; `name`: of what was sent."""
        yield self._first_line(name)
        if self.already_sent:
            yield f"  {self.already_sent:,} of {self.read:,} lines already sent by an earlier import"
        yield from self._counts()
        yield from _refused(self.findings.rejected, "rejected")
        yield from _refused(self.findings.faults, "faulty")
        for _, text in self.findings.unreadable:
            yield f"  {text}"
        for caution in self.findings.warnings:
            yield f"  warning: {caution.text}"
        for path, notes in self.findings.notes:
            for code, text in notes.texts.items():
                yield f"  {path}: {text} ({notes.counts[code]:,})"
        if self.stopped:
            yield "  stopped at the first line that is refused, as --strict says: nothing more was sent"

    def _first_line(self, name: str) -> str:
        it = self.sent
        if self.dry_run:
            return f"{name}: {it.accepted:,} of {self.read:,} would be sent"
        again = f", {it.retries} batches sent again" if it.retries else ""
        return (
            f"{name}: {it.accepted:,} of {it.sent:,} accepted in {it.seconds:.1f} s"
            f" ({it.per_second:,.0f}/s{again})"
        )

    def _counts(self) -> Iterator[str]:
        it = self.sent
        for action, count in self.actions.most_common():
            yield f"  {count:,} {action}"
        if it.duplicates:
            yield f"  {it.duplicates:,} left out: each equals an earlier line"
        if it.unknown_items:
            yield f"  {it.unknown_items:,} on items that the catalogue does not have"
            if it.unknown_over_limit is None and not self.dry_run:
                yield OVER_LIMIT_PENDING
        if it.unknown_over_limit:
            yield (
                f"  {it.unknown_over_limit:,} of those never count: they came after the limit of a"
                " partition and day"
            )


def _refused(refusals: Refusals, word: str) -> Iterator[str]:
    common = refusals.most_common()
    for (path, where, code), kind in common[:MAX_SHOWN]:
        yield f"  {kind.count:,} {word}: {where} {code} (first: {path}, line {kind.line})"
    if rest := sum(kind.count for _, kind in common[MAX_SHOWN:]):
        yield f"  {rest:,} {word} for other reasons (--json has them all)"
