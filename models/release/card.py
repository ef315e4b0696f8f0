"""The model card of a release, of its manifest alone: what it is, of what data, how good, with what limits.

Mitchell et al. 2019, "Model Cards for Model Reporting". What a manifest lacks, such as one of an older
format, its card leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from models.release import verdicts
from models.release.verdicts import Range, entries, interval, number
from schemas.releases import RANKER, Manifest
from schemas.state.counting import Counting
from schemas.state.tables import WINDOWS
from schemas.times import render

METRICS: Final = (("hit_rate_at_10", "HR@10"), ("ndcg_at_10", "NDCG@10"))
"""Of an arm: the name in the manifest, and the field's."""
_COUNTS: Final = ("n", "people")


class Grid(NamedTuple):
    """A table of a card. `ratios`: of each row an interval to draw beside 1; () draws none."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    ratios: tuple[Range, ...] = ()


class Section(NamedTuple):
    """A heading with the sentences and tables under it."""

    title: str
    sentences: tuple[str, ...] = ()
    grids: tuple[Grid, ...] = ()


def sections(manifest: Manifest) -> list[Section]:
    """The sections of a card, in order; one that would be empty is not there."""
    found = [
        _release(manifest),
        _verdict(manifest),
        _data(manifest),
        _counting(manifest.counting),
        _columns(manifest),
        *_evaluation(manifest),
        _limits(manifest),
        _rollback(manifest),
    ]
    return [it for it in found if it.sentences or any(grid.rows for grid in it.grids)]


def when(millis: int) -> str:
    """A time for people.

    >>> when(0)
    '1970-01-01 00:00 UTC'
    """
    return render(millis).replace("T", " ")[:16] + " UTC"


def _release(manifest: Manifest) -> Section:
    ranks = (
        f"a ranker of {len(manifest.features)} columns" if RANKER in manifest.files else "no ranker"
    )
    parent = f"Its parent, which served while it was trained, is {manifest.parent}."
    return Section(
        "What it is",
        (
            f"Vectors of {manifest.space.items:,} items in {manifest.space.dim} dimensions"
            f" ({manifest.space.name}), weights of the coarse score, and {ranks}.",
            f"Made {when(manifest.created_at)} by version {manifest.code}, format {manifest.format}.",
            parent if manifest.parent else "It has no parent.",
        ),
    )


def _verdict(manifest: Manifest) -> Section:
    rows, ratios = [], []
    for name, it in verdicts.by_component(manifest).items():
        counts = ("" if held is None else f"{held:,}" for held in (it.n, it.people, it.needed))
        rows.append((name, it.outcome, it.ratio.text(3), it.rival, *counts))
        ratios.append(it.ratio)
    columns = ("component", "outcome", "ratio", "to", "#choices", "#people", "#needed")
    why = (
        f"{name}: {it.why.rstrip('.')}."
        for name, it in verdicts.by_component(manifest).items()
        if it.why
    )
    grids = [Grid(columns, tuple(rows), tuple(ratios)), _conditions(manifest)]
    return Section("Verdict of the gate", tuple(why), tuple(grids))


def _conditions(manifest: Manifest) -> Grid:
    rows = []
    for component, judged in entries(manifest.metrics.get("gate")).items():
        for name, it in entries(entries(judged).get("checks")).items():
            held = entries(it)
            passed = "passed" if held.get("passed") else "FAILED"
            rows.append((str(component), str(name), passed, str(held.get("why", ""))))
    return Grid(("component", "check", "outcome", "why"), tuple(rows))


def _data(manifest: Manifest) -> Section:
    data, metrics = manifest.data, manifest.metrics
    more = {**metrics, **entries(metrics.get("data"))}
    rows = [("events", f"{data.events:,}"), ("first", when(data.first)), ("last", when(data.last))]
    for name in ("people", "items"):
        if (count := number(more.get(name))) is not None:
            rows.append((name, f"{int(count):,}"))
    rows.append(("offsets", ".".join(map(str, data.offsets))))
    split = _counted(("choices", "#number"), metrics.get("choices"))
    dropped = _counted(("actions left out", "#number"), more.get("dropped"))
    chosen = _counted(("chosen on history by", "#"), metrics.get("chosen"))
    return Section("Data", (), (Grid(("", "log"), tuple(rows)), split, dropped, chosen))


def _counting(counting: Counting) -> Section:
    rows = [
        ("pairs", "within a session" if counting.gap == "session" else "at any gap"),
        ("weight of a pair", f"1 / lag^{counting.lag_power:g}"),
        ("weight of its backward", f"{counting.backward:g}"),
        ("fade of an interest", f"{counting.fade:g}"),
        ("popularity", mix(counting.window)),
        ("popularity for strangers", mix(counting.strangers)),
    ]
    return Section("Counting", (), (Grid(("", "set to"), tuple(rows)),))


def mix(weights: Iterable[float]) -> str:
    """A mix of windows in words.

    >>> mix((0.0, 1.0, 0.0, 0.5))
    '24h + 0.5 x 90d'
    """
    return " + ".join(
        name if weight == 1 else f"{weight:g} x {name}"
        for name, weight in zip(WINDOWS, weights, strict=False)
        if weight
    )


def _columns(manifest: Manifest) -> Section:
    weights = sorted(manifest.coarse.items(), key=lambda it: -abs(it[1]))
    coarse = Grid(
        ("column of the coarse score", "#weight"), tuple((name, f"{of:g}") for name, of in weights)
    )
    gain = entries(manifest.metrics.get("gain") or manifest.metrics.get("gains"))
    total = sum(number(it) or 0.0 for it in gain.values()) or 1.0
    share = {name: (number(gain.get(name)) or 0.0) / total for name in manifest.features}
    names = sorted(manifest.features, key=lambda name: -share[name])
    ranker = Grid(
        ("column of the ranker", "#share of its gain"),
        tuple((name, f"{share[name]:.1%}" if gain else "") for name in names),
    )
    return Section("Columns", (), (coarse, ranker))


def _evaluation(manifest: Manifest) -> list[Section]:
    arms = {str(name): entries(it) for name, it in entries(manifest.metrics.get("arms")).items()}
    found = {
        name: [interval(arm.get(key), arm, key) for key, _ in METRICS] for name, arm in arms.items()
    }
    names = sorted(found, key=lambda name: -(found[name][-1].value or 0.0))
    grid = Grid(
        ("arm", *(f"#{name}" for _, name in METRICS)),
        tuple((name, *(it.text(4) for it in found[name])) for name in names),
    )
    made = [Section("Evaluation: every arm on the same choices", (), (grid,))]
    for name, judged in entries(manifest.metrics.get("gate")).items():
        for title, key in (("Ratio to each rival", "rivals"), ("Ratio by slice", "slices")):
            made.append(Section(f"{title}: {name}", (), (_ratios(entries(judged).get(key)),)))
    return made


def _ratios(held: object) -> Grid:
    ratios = {str(name): interval(it) for name, it in entries(held).items()}
    sizes = {str(name): entries(it) for name, it in entries(held).items()}
    counted = [key for key in _COUNTS if any(number(it.get(key)) for it in sizes.values())]
    rows = tuple(
        (name, it.text(3), *(_whole(sizes[name].get(key)) for key in counted))
        for name, it in ratios.items()
    )
    return Grid(("", "ratio", *(f"#{key}" for key in counted)), rows, tuple(ratios.values()))


def _limits(manifest: Manifest) -> Section:
    judged = verdicts.overall(manifest)
    on = f"{judged.n:,} choices" if judged.n else "choices"
    of = f" of {judged.people:,} people" if judged.people else ""
    sentences = [
        f"It was judged on {on}{of} held out of the end of the log: what people choose from the lists that it"
        " makes is seen only once it serves, in an experiment.",
        "A 95 % interval covers the true value in about 95 of 100 samples of people; where 1 lies within it,"
        " the sign of the difference is not certain.",
        f"Items put after {when(manifest.data.last)} are placed in its space by their content alone.",
        "Pairs, popularity and what a person did are counted in the stream: no release holds them.",
    ]
    if judged.needed:
        sentences.append(f"About {judged.needed:,} choices would decide what is undecided.")
    return Section("Limits", tuple(sentences))


def _rollback(manifest: Manifest) -> Section:
    to = f"returns to {manifest.parent}, its parent" if manifest.parent else "needs --to ID"
    return Section(
        "Promote and roll back",
        (
            f"`freshet release promote {manifest.id}` serves it, whatever its verdict; `--reason` is"
            " recorded.",
            f"While it serves, `freshet release rollback` {to}. No file is removed.",
        ),
    )


def _counted(columns: tuple[str, ...], held: object) -> Grid:
    return Grid(columns, tuple((str(name), _whole(it)) for name, it in _flat(entries(held))))


def _flat(held: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    """The leaves of nested mappings, under joined names."""
    for name, it in held.items():
        if isinstance(it, Mapping):
            yield from _flat(it, f"{before}{name} ")
        else:
            yield f"{before}{name}", it


def _whole(value: object) -> str:
    count = number(value)
    if count is None:
        return "" if value is None else str(value)
    return f"{int(count):,}" if count == int(count) else f"{count:.4g}"
