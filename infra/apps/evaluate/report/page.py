"""The page of one result: what serves, against what, for whom, and what was left out."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from infra.apps.evaluate.report.details import about, equals, seeds, shown, slices
from infra.apps.evaluate.report.marks import Bar, figures, paragraph, plot, ratio_plot, table
from infra.apps.evaluate.report.phrases import Result, kind_of, span, times
from infra.apps.evaluate.report.style import STYLE
from infra.apps.evaluate.words import arm, every_arm, ordered

PROTOCOLS: Final = {
    "prequential": "Each choice after the split is ranked for just before it was made, then learnt.",
    "leave-one-out": "Each person's last choice is found from everything else. Such figures compare models"
    " and papers; a running system knows less.",
    "judged": "The items that a person rated after the split are ranked among themselves, before any"
    " of it is known. A random order already does well here: compare with its row.",
}


def page(result: Result) -> str:
    """One file of HTML, without a script and without anything to fetch."""
    title = f"{result['data']}, {result['protocol']}"
    body = "".join(_sections(result))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Evaluation: {escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>\n"
    )


def _sections(result: Result) -> Iterator[str]:
    yield paragraph(PROTOCOLS[result["protocol"]])
    yield _headline(result)
    yield _arms(result)
    yield _ratios(result)
    if result["slices"]:
        yield slices(result)
    if result["protocol"] != "judged":
        yield shown(result)
        yield equals(result)
    if "seeds" in result:
        yield seeds(result)
    yield about(result)


def _headline(result: Result) -> str:
    own, best = result["released"], result["best_source"]
    ratio = result["ratios"][best]
    judged = "lists" if result["protocol"] == "judged" else "choices"
    late = f", state late by {result['delay']}" if result["delay"] else ""
    said = paragraph(
        f"{result['n']:,} {judged} of {result['people']:,} people; items that a person had are"
        f" {result['seen']}{late}. What serves is"
        f" {'the candidate' if result['served'] == 'candidate' else 'what is built in'}.",
        quiet=True,
    )
    return said + figures(
        (
            (f"{own['hr']:.3f}", "HR@10, released"),
            (f"{own['ndcg']:.4f}", "NDCG@10, released"),
            (
                f"{result['sources'][best]['ndcg']:.4f}",
                f"NDCG@10, {arm(best)}, the best single source",
            ),
            (times(ratio), f"their ratio ({span(ratio)})"),
            (f"{result['random']['ndcg']:.4f}", "NDCG@10, random order"),
        )
    )


def _arms(result: Result) -> str:
    arms = every_arm(result)
    bars = [
        Bar(arm(name), it["ndcg"], it.get("ndcg_lo"), it.get("ndcg_hi"), kind_of(name))
        for name, it in ((name, arms[name]) for name in ordered(arms))
    ]
    columns = ["arm", "HR", "NDCG", "MRR", "precision", "recall"]
    more = [
        it for it in ("hr_debiased", "ndcg_debiased", "ndcg_graded") if it in result["released"]
    ]
    rows = [
        (
            kind_of(name),
            [
                arm(name),
                *(arms[name].get(it) for it in ("hr", "ndcg", "mrr", "precision", "recall", *more)),
            ],
        )
        for name in ordered(arms)
    ]
    named = {
        "hr_debiased": "HR debiased",
        "ndcg_debiased": "NDCG debiased",
        "ndcg_graded": "NDCG 2^r-1",
    }
    return (
        "<h2>NDCG@10 of every arm</h2>"
        + paragraph("Lines are 95 % intervals, by a bootstrap over people.", quiet=True)
        + plot(bars, unit="NDCG@10")
        + table([*columns, *(named[it] for it in more)], rows)
    )


def _ratios(result: Result) -> str:
    bars = [
        Bar(
            arm(name),
            it["ratio"],
            it["ratio_lo"],
            it["ratio_hi"],
            kind_of(name),
            f"{times(it)} ({span(it)})",
        )
        for name, it in sorted(result["ratios"].items(), key=lambda row: row[1]["ratio"] or 0)
        if it["ratio"] is not None
    ]
    cap = result.get("category_cap", {}).get("released")
    cost = (
        paragraph(
            f"The caps on categories and owners: NDCG {times(cap)} of that without ({span(cap)})."
        )
        if cap
        else ""
    )
    return (
        "<h2>Released over each other arm</h2>"
        + paragraph("Paired ratios of NDCG@10; at the dashed line both are alike.", quiet=True)
        + ratio_plot(bars)
        + cost
    )
