"""Phrases of the report: ratios in words, and the colour of an arm."""

from __future__ import annotations

from typing import Any, Final

from infra.apps.evaluate.report.marks import Kind
from infra.apps.evaluate.words import PLAIN

Result = dict[str, Any]
OURS: Final = frozenset({"released", "fresh", "candidate", "built_in", "frozen"})


def kind_of(name: str) -> Kind:
    if name in PLAIN or name.startswith("popular"):
        return "plain"
    if name == "released":
        return "served"
    return "ours" if name in OURS else "other"


def times(it: dict[str, float | None]) -> str:
    return "no ratio" if it["ratio"] is None else f"{it['ratio']:.3f} x"


def span(it: dict[str, float | None]) -> str:
    low, high = it["ratio_lo"], it["ratio_hi"]
    if low is None:
        return "no interval"
    return f"{low:.3f} to {'no end' if high is None else f'{high:.3f}'}"
