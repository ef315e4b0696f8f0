"""Details of one result: slices, what was shown, ties, seeds, what was left out."""

from __future__ import annotations

from typing import Final

from infra.apps.evaluate.report.marks import Bar, Row, paragraph, ratio_plot, table
from infra.apps.evaluate.report.phrases import Result, kind_of, span, times
from infra.apps.evaluate.words import arm, every_arm, ordered, slice_name

BEYOND: Final = {
    "coverage": "coverage",
    "diversity_category": "diversity, category",
    "diversity_owner": "diversity, owner",
    "novelty": "novelty, bits",
    "popularity_bias": "popularity bias",
    "calibration": "calibration, nats",
}
"""Metrics of what was shown, and the names of their columns."""


def slices(result: Result) -> str:
    rows: list[Row] = []
    bars = []
    for name, it in result["slices"].items():
        said, label = f"{times(it)} ({span(it)})", slice_name(name)
        if it["ratio"] is not None:
            bars.append(Bar(label, it["ratio"], it["ratio_lo"], it["ratio_hi"], "ours", said))
        own, best = it["released"], it["best_source"]
        figures = (it["n"], it["people"], own["hr"], own["ndcg"], best["ndcg"])
        rows.append(("other", [label, *figures, said]))
    columns = ("slice", "choices", "people", "HR", "NDCG", "NDCG best source", "ratio")
    return (
        "<h2>For whom, and of what</h2>"
        + paragraph(
            f"Released over {arm(result['best_source'])}, by slice of the choices.", quiet=True
        )
        + ratio_plot(bars)
        + table(columns, rows)
    )


def shown(result: Result) -> str:
    arms = every_arm(result)
    rows = [
        (kind_of(name), [arm(name), *(arms[name].get(it) for it in BEYOND)])
        for name in ordered(arms)
        if "novelty" in arms[name]
    ]
    said = (
        "Coverage: share of the catalogue that anybody was shown. Diversity: share of a slate's pairs that"
        " differ. Novelty: self-information. Popularity bias: above 1 where slates are more popular than"
        " choices. Calibration: divergence of a slate's categories from those of the person; 0 is the same."
    )
    return (
        "<h2>What was shown</h2>"
        + paragraph(said, quiet=True)
        + table(["arm", *BEYOND.values()], rows)
    )


def equals(result: Result) -> str:
    arms = every_arm(result)
    rows: list[Row] = []
    for name in ordered(arms):
        it = arms[name]
        if "ndcg_ties" in it:
            worst, best = it["ndcg_ties"]
            both = f"{worst:.4f} to {best:.4f}"
            rows.append(
                (
                    kind_of(name),
                    [arm(name), it["ndcg_uncapped"], both, it["hr_100neg"], it["ndcg_100neg"]],
                )
            )
    columns = (
        "arm",
        "NDCG without caps",
        "by order of ties",
        "HR, 100 negatives",
        "NDCG, 100 negatives",
    )
    said = (
        "Equal scores count at their expectation; beside it the worst and the best order of them. Among 100"
        " uniform negatives, in expectation, any arm looks better: such figures compare with papers only."
    )
    return "<h2>Ties, and 100 negatives</h2>" + paragraph(said, quiet=True) + table(columns, rows)


def seeds(result: Result) -> str:
    seeds = result["seeds"]
    rows = [
        (
            kind_of(name),
            [arm(name), *(it[f"{m}_{w}"] for m in ("hr", "ndcg") for w in ("mean", "sd"))],
        )
        for name, it in seeds.items()
        if name != "seeds"
    ]
    columns = ("arm", "HR mean", "HR sd", "NDCG mean", "NDCG sd")
    return f"<h2>Over {len(seeds['seeds'])} seeds</h2>" + table(columns, rows)


def about(result: Result) -> str:
    rows: list[Row] = [("other", [name, count]) for name, count in result["excluded"].items()]
    rows += [("other", [f"not read: {name}", count]) for name, count in result["dropped"].items()]
    clock = "times of its own" if result["clock"] else "no times: they were laid out"
    said = (
        f"Layout {result['layout']}, {clock}; {result['acts']:,} acts, {result['items']:,} items, of which"
        f" {result['history']:,} acts are history. Seed {result['seed']}; {result['seconds']:,.0f} s."
    )
    gate = "".join(
        paragraph(f"The gate on {name}: {it['outcome']}; {it['why']}")
        for name, it in result["gate"].items()
    )
    notes = "".join(paragraph(text, quiet=True) for text in result["notes"].values())
    return (
        "<h2>The data and the gate</h2>"
        + paragraph(said)
        + gate
        + notes
        + (table(("not a target", "count"), rows) if rows else "")
    )
