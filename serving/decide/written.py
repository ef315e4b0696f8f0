"""The `Decision` made of what a compiled decision has written into its workspace."""

from __future__ import annotations

from itertools import repeat
from struct import Struct
from typing import Final

from models.kernels.loading import kernel
from serving.decide.arrange import CATEGORY_CAP, FRESH, OWNER_CAP
from serving.decide.case import Ask, World
from serving.decide.entries import Plan
from serving.decide.results import (
    BEYOND,
    EXPLORED,
    LISTED,
    NEW,
    SEEN,
    SEEN_BEFORE,
    TASTE,
    VARIANT,
    Contribution,
    Decision,
    Explain,
    OnStage,
    Reason,
    Reasons,
    Shown,
)
from serving.decide.workspace import Workspace
from serving.world.catalogue import ItemTable

_STAGES: Final = ("retrieve", "eligible", "score", "rank", "arrange")
"""Those whose time C takes; what is left is `explain`, and of Python."""
MAX_REASONS: Final = 4096
"""Reasons that are kept of one recipe, release and placement: then all are made anew."""
_POPULAR_NOW: Final = Reason("popular", "Popular now")
_new = tuple.__new__
_SCORE: Final = Struct("=f")
_FALLBACKS: Final = (None, "popular", "content", "no_model")
_RULES: Final = (CATEGORY_CAP, OWNER_CAP, FRESH, SEEN)
_RELAXED: Final = tuple(
    tuple([rule for bit, rule in enumerate(_RULES) if bits >> bit & 1]) for bits in range(16)
)
if kernel is not None:
    _lib, _unpack = kernel.lib, kernel.ffi.unpack
    _COUNTS: int = _lib.COUNTS
    _SHOWN: int = _lib.SHOWN_NUMBERS
    _STAGES_AT: int = _lib.COUNT_STAGES
    _ITEM: Final = Struct(f"={_SHOWN}i")
    _ROWS: Final = tuple([Struct(f"={width}f") for width in range(_lib.MAX_COLUMNS + 1)])
    """By its width, a row for the ranker."""
    _WATCHED, _CATEGORY, _POPULAR = _lib.SAYS_WATCHED, _lib.SAYS_CATEGORY, _lib.SAYS_POPULAR
    _FIXED: dict[int, Reason | None] = {
        _lib.SAYS_NOTHING: None,
        _lib.SAYS_TASTE: TASTE,
        _lib.SAYS_NEW: NEW,
        _lib.SAYS_LISTED: LISTED,
        _lib.SAYS_EXPLORED: EXPLORED,
        _lib.SAYS_SEEN_BEFORE: SEEN_BEFORE,
    }


def decision(
    work: Workspace,
    plan: Plan,
    known: Reasons,
    world: World,
    ask: Ask,
    explain: Explain,
    on_stage: OnStage,
) -> Decision:
    """The decision that C has written into the workspace; `known`: reasons of items as they are now."""
    sources, rules = len(plan.sources), len(plan.rules)
    counts = _unpack(work.d.out_counts, _COUNTS + sources + rules)
    (
        n, fallback, relaxed, exhausted, kept, scored, passed_over, by_category, by_owner, drawn,
        explored, ran,
    ) = counts[:_STAGES_AT]  # fmt: skip
    by_rule = counts[_COUNTS + sources :]
    removed = {rule: n for rule, n in zip(plan.rules, by_rule, strict=True) if n >= 0}
    if passed_over:
        removed[VARIANT] = removed.get(VARIANT, 0) + passed_over
    removed[BEYOND] = kept - scored
    removed[CATEGORY_CAP], removed[OWNER_CAP] = by_category, by_owner
    shown = _shown(work, plan, known, world, ask, n, len(plan.features) if ran else 0) if n else []
    if explain == "full":
        shown = _in_full(work, plan, world, shown, bool(ran))
    if drawn:
        shown[-1] = shown[-1]._replace(explore=bool(explored), probability=work.d.probability)
    for stage, ns in zip(_STAGES, counts[_STAGES_AT:], strict=False):
        on_stage(stage, ns / 1e6)
    on_stage("explain")
    return Decision(
        shown,
        _FALLBACKS[fallback],
        _RELAXED[relaxed],
        bool(exhausted),
        dict(zip(plan.sources, counts[_COUNTS:], strict=False)),
        removed,
        kept,
    )


def _shown(
    work: Workspace, plan: Plan, known: Reasons, world: World, ask: Ask, n: int, width: int
) -> list[Shown]:
    items, sources = world.items, plan.sources
    names = work.provenance.setdefault(sources, {})
    ids, categories, groups = items.ids, items.categories.texts, items.groups.texts
    rows = _ROWS[width].iter_unpack(work.rows[: 4 * n * width]) if width else repeat((), n)
    shown = []
    for (slot, says, because, bits, swapped, _, category, group), (score,), row in zip(
        _ITEM.iter_unpack(work.items[: _ITEM.size * n]),
        _SCORE.iter_unpack(work.scores[: 4 * n]),
        rows,
        strict=True,
    ):
        if says in _FIXED:
            reason = _FIXED[says]
        elif says == _POPULAR:
            reason = _popular(ask.category)
        else:
            key = says, because or category
            reason = known.get(key) or _remembered(known, key, items)
        shown.append(
            # the constructor of a NamedTuple takes thrice as long
            _new(
                Shown,
                (
                    slot,
                    ids[slot],
                    score,
                    categories[category],
                    reason,
                    names.get(bits) or _named(names, sources, bits),
                    (),
                    False,
                    1.0,
                    row,
                    groups[group],
                    swapped != 0,
                    (),
                ),
            )
        )
    return shown


def _named(
    names: dict[int, tuple[str, ...]], sources: tuple[str, ...], bits: int
) -> tuple[str, ...]:
    """The sources of these bits."""
    found = names[bits] = tuple([name for at, name in enumerate(sources) if bits >> at & 1])
    return found


def _popular(category: str | None) -> Reason:
    return Reason("popular", f"Popular in {category}") if category else _POPULAR_NOW


def _remembered(reasons: Reasons, key: tuple[int, int], items: ItemTable) -> Reason:
    """The reason that says so of an item or a category; it is kept for the next one."""
    if len(reasons) >= MAX_REASONS:
        reasons.clear()
    reason = reasons[key] = _reason(items, *key)
    return reason


def _reason(items: ItemTable, says: int, of: int) -> Reason:
    if says == _CATEGORY:
        return Reason("category", f"More {items.categories.texts[of]} for you")
    item_id = items.ids[of]
    title = items.titles[of] or item_id
    if says == _WATCHED:
        return Reason("because_you_watched", f"Because you watched {title}", (item_id,))
    return Reason("similar_to", f"Similar to {title}", (item_id,))


def _in_full(
    work: Workspace, plan: Plan, world: World, shown: list[Shown], ran: bool
) -> list[Shown]:
    """The items with what explain=full adds: contributions and the variants that are not shown."""
    d, n, weighted = work.d, len(shown), plan.weighted
    values = _unpack(d.out_values, n * len(weighted)) if weighted and n else []
    has_values = [bool(d.has_values[at]) for at in range(len(weighted))]
    numbers = _unpack(d.out_items, _SHOWN * n)[_lib.SHOWN_NUMBER :: _SHOWN] if n else []
    passed_over: dict[int, list[str]] = {}
    if d.has_chosen:
        for number in _unpack(d.passed_over, d.n_passed_over) if d.n_passed_over else []:
            passed_over.setdefault(d.chosen[number], []).append(world.items.ids[d.slot[number]])
    found = []
    for rank, item in enumerate(shown):
        own = values[rank * len(weighted) : (rank + 1) * len(weighted)]
        made = [
            Contribution(name, value, value * weight)
            for (name, weight), value, has in zip(weighted, own, has_values, strict=True)
            if has
        ]
        before = d.out_before[rank]
        if ran and d.out_predicted[rank]:
            made.append(Contribution("ranker", d.out_prediction[rank], before))
        if tiredness := d.out_tiredness[rank]:
            made.append(Contribution("fatigue", tiredness, item.score - before))
        others = passed_over.get(numbers[rank], ()) if item.group else ()
        made.sort(key=lambda contribution: -contribution.effect)
        found.append(item._replace(contributions=tuple(made), variants=tuple(others)))
    return found
