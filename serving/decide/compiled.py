"""The decision by the kernel: one call of C for a request, and the `Decision` made of what it writes.

`decide.decide_by_numpy` defines it. C stops where it needs something that Python computes (`handed`), and goes on.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.kernels.loading import kernel
from schemas.events import Preferences
from schemas.state.vectors import Vector
from serving.decide.arrange import CATEGORY_CAP, FRESH, OWNER_CAP
from serving.decide.case import Ask, Case, World, hashes_of
from serving.decide.explain import EXPLORED, LISTED, NEW, SEEN_BEFORE, TASTE
from serving.decide.handed import Handed
from serving.decide.person import Person
from serving.decide.plan import TooLarge
from serving.decide.prepared import VARYING, Prepared
from serving.decide.results import BEYOND, Contribution, Decision, Explain, OnStage, Reason, Shown
from serving.decide.rules import SEEN, VARIANT
from serving.decide.sources import LARGE_CATEGORY, MAX_SCORED
from serving.decide.workspace import Workspace, give_back, take

_STAGES: Final = ("retrieve", "eligible", "score", "rank", "arrange")
"""Those whose time C takes; what is left is `explain`, and of Python."""
_FALLBACKS: Final = (None, "popular", "content", "no_model")
_EXPLAIN: Final = {"none": 0, "reason": 1, "full": 2}
_RELAXED: Final = tuple(
    tuple(
        [rule for bit, rule in enumerate((CATEGORY_CAP, OWNER_CAP, FRESH, SEEN)) if bits >> bit & 1]
    )
    for bits in range(16)
)
_NO_CATEGORY: Final = -2
_UNKNOWN_CATEGORY: Final = -1

if kernel is not None:
    _lib, _ffi = kernel.lib, kernel.ffi
    _NULL: Any = _ffi.NULL
    _unpack, _run, _begin, _asked = (
        _ffi.unpack,
        _lib.decision_run,
        _lib.decision_begin,
        _lib.decision_asked,
    )
    _COUNTS: int = _lib.COUNTS
    _STAGES_AT: int = _lib.COUNT_STAGES
    _WATCHED, _SIMILAR, _CATEGORY, _POPULAR = (
        _lib.SAYS_WATCHED, _lib.SAYS_SIMILAR, _lib.SAYS_CATEGORY, _lib.SAYS_POPULAR
    )  # fmt: skip
    _FIXED: dict[int, Reason | None] = {
        _lib.SAYS_NOTHING: None,
        _lib.SAYS_TASTE: TASTE,
        _lib.SAYS_NEW: NEW,
        _lib.SAYS_LISTED: LISTED,
        _lib.SAYS_EXPLORED: EXPLORED,
        _lib.SAYS_SEEN_BEFORE: SEEN_BEFORE,
    }


def decide(
    person: Person, world: World, ask: Ask, explain: Explain, on_stage: OnStage
) -> Decision | None:
    """The slate for `person`; None where the arrays of C have no room for the recipe. There must be a kernel."""
    work = take()
    try:
        needed: tuple[bool, ...] = ()
        if VARYING:
            case = Case(person, world, ask)
            needed = tuple([source.needed(case) for source in VARYING])
        try:
            prepared = work.prepared(world, ask, needed)
        except TooLarge:
            return None
        work.make_room_for(MAX_SCORED + ask.count)
        _fill(work, prepared, person, world, ask, explain)
        d = work.d
        _begin(d)
        need = _run(d)
        if need:
            handed = Handed(work, prepared.plan, person, world, ask)
            while need:
                handed.answer(need)
                need = _run(d)
        return _decision(work, prepared, world, ask, explain, on_stage)
    finally:
        give_back(work)


def _fill(
    work: Workspace, prepared: Prepared, person: Person, world: World, ask: Ask, explain: Explain
) -> None:
    """Writes what is asked, and the person, into the workspace."""
    items, preferences = world.items, person.preferences
    row, seen, impressions = person.row_bytes, person.seen_bytes, person.impressions_bytes
    if row is not None:
        row = bytes(row)
        work.held.append(row)
    category = _NO_CATEGORY
    if ask.category is not None:
        found = items.categories.find(ask.category)
        category = _UNKNOWN_CATEGORY if found is None else found
    _asked(
        work.ask,
        ask.now,
        ask.count,
        ask.seed,
        ask.personalized and (preferences is None or preferences.personalized),
        _EXPLAIN[explain],
        items.find(ask.item_id) if ask.item_id else 0,
        category,
        _NULL if row is None else row,
        seen,
        len(seen),
        impressions,
        len(impressions),
        person.seen_is_whole,
        _stored_vector(person.vector, world),
    )
    if category != _NO_CATEGORY:
        _fill_category(work, prepared, world, category)
    if ask.filter is not None:
        work.ask.filter = _held(work, "uint8_t[]", world.filters.mask(ask.filter))
        if ask.filter.published_within_days is not None:
            days_ago = Case(person, world, ask).days_ago
            work.ask.filter_after = days_ago(ask.filter.published_within_days)
    if ask.exclude:
        work.ask.exclude = _held(work, "uint64_t[]", hashes_of(ask.exclude))
        work.ask.n_exclude = len(ask.exclude)
    if ask.served:
        work.ask.served = _held(work, "uint32_t[]", np.frombuffer(ask.served, "<u4"))
        work.ask.n_served = len(ask.served) // 4
    if ask.groups:
        _fill_numbers(work, "groups", [items.groups.find(name) or 0 for name in ask.groups])
    if preferences is not None:
        _fill_preferences(work, preferences, world)


def _stored_vector(stored: Vector | None, world: World) -> Any:
    """The person's vector as the flow stored it, where it is of the release and complete."""
    release = world.release
    if stored is None or release is None or stored.release != release.id or not stored.complete:
        return _NULL
    return stored.grid


def _fill_category(work: Workspace, prepared: Prepared, world: World, category: int) -> None:
    """Of a small category its items, which are ranked all; a large one is found along the order of all."""
    memberships, ask = world.items.memberships, work.ask
    if memberships.size(category) * LARGE_CATEGORY >= world.items.count:
        return
    slots = memberships.slots(category)
    ask.category_slots, ask.n_category_slots = _held(work, "int32_t[]", slots), len(slots)
    for source in prepared.plan.mixes:
        ask.category_rank[source][0], ask.category_rank[source][1] = prepared.ranks(
            world.tables, source
        )


def _fill_preferences(work: Workspace, preferences: Preferences, world: World) -> None:
    items, ask = world.items, work.ask
    ask.has_preferences = True
    if preferences.liked_categories:
        find = items.categories.find
        _fill_numbers(work, "liked", [find(name) or 0 for name in preferences.liked_categories])
    if preferences.hidden_items:
        ask.hides_items = True
        _fill_numbers(work, "hidden_items", [items.find(it) for it in preferences.hidden_items])
    if preferences.hidden_categories:
        ask.hides_categories = True
        numbers = items.categories.found(preferences.hidden_categories)
        _fill_numbers(work, "hidden_categories", list(numbers))
    if preferences.hidden_owners:
        ask.hides_owners = True
        numbers = {items.owners.find(name) or 0 for name in preferences.hidden_owners} - {0}
        _fill_numbers(work, "hidden_owners", list(numbers))


def _fill_numbers(work: Workspace, name: str, numbers: list[int]) -> None:
    setattr(work.ask, name, _held(work, "int32_t[]", np.array(numbers, np.int32)))
    setattr(work.ask, f"n_{name}", len(numbers))


def _held(work: Workspace, kind: str, array: NDArray[Any]) -> Any:
    pointer = _ffi.from_buffer(kind, array)
    work.held.append(pointer)
    return pointer


def _decision(
    work: Workspace,
    prepared: Prepared,
    world: World,
    ask: Ask,
    explain: Explain,
    on_stage: OnStage,
) -> Decision:
    plan = prepared.plan
    sources, rules = len(plan.sources), len(plan.rules)
    counts = _unpack(work.counts, _COUNTS + sources + rules)
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
    shown = _shown(work, prepared, world, ask, n, len(plan.features) if ran else 0) if n else []
    if explain == "full":
        shown = _in_full(work, prepared, world, shown, bool(ran))
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
    work: Workspace, prepared: Prepared, world: World, ask: Ask, n: int, width: int
) -> list[Shown]:
    items, names = world.items, prepared.names
    ids, categories, groups = items.ids, items.categories.texts, items.groups.texts
    numbers, scores = iter(_unpack(work.items, 8 * n)), _unpack(work.scores, n)
    rows = _unpack(work.rows, n * width) if width else ()
    shown, at = [], 0
    for (slot, says, because, bits, swapped, _, category, group), score in zip(
        zip(*[numbers] * 8, strict=True), scores, strict=True
    ):
        shown.append(
            Shown(
                slot,
                ids[slot],
                score,
                categories[category],
                _FIXED[says] if says in _FIXED else _reason(world, ask, says, because, category),
                names(bits),
                (),
                False,
                1.0,
                tuple(rows[at : at + width]),
                groups[group],
                bool(swapped),
            )
        )
        at += width
    return shown


def _reason(world: World, ask: Ask, says: int, because: int, category: int) -> Reason:
    items = world.items
    if says == _POPULAR:
        name = ask.category
        return Reason("popular", f"Popular in {name}" if name else "Popular now")
    if says == _CATEGORY:
        return Reason("category", f"More {items.categories.texts[category]} for you")
    item_id = items.ids[because]
    title = items.titles[because] or item_id
    if says == _WATCHED:
        return Reason("because_you_watched", f"Because you watched {title}", (item_id,))
    return Reason("similar_to", f"Similar to {title}", (item_id,))


def _in_full(
    work: Workspace, prepared: Prepared, world: World, shown: list[Shown], ran: bool
) -> list[Shown]:
    """The items with what explain=full adds: contributions and the variants that are not shown."""
    d, n, weighted = work.d, len(shown), prepared.plan.weighted
    values = _unpack(work.values, n * len(weighted)) if weighted and n else []
    has_values = [bool(d.has_values[at]) for at in range(len(weighted))]
    numbers, passed_over = _unpack(work.items, 8 * n)[5::8] if n else [], {}
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
