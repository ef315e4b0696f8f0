"""A recipe and a release as the compiled decision reads them, prepared once for many requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from models.features.affinity import HALF_LIFE_MS
from models.features.registry import ROW
from models.features.ring import BACK, ENTRY, RING_SIZE
from models.features.session import GAP_MS
from models.kernels.loading import kernel
from models.release.interest import POSITIVE, VECTOR_FADING, fading
from models.seen import BITS
from schemas.actions import WEIGHT, by_byte
from schemas.control import duration_ms
from schemas.state.counting import Mix, only
from schemas.state.tables import WINDOWS
from schemas.times import DAY_MS, HOUR_MS
from serving.decide.case import World
from serving.decide.entries import AnySource, Entries, Plan
from serving.decide.pool import POPULARITY, UNLIMITED_DAYS, VARIANT_MIX
from serving.decide.results import MAX_NEW_DAYS, MIN_SIMILAR_COSINE, SEEN, VARIANT

MAX_DAYS: Final = 1e6
NO_TREES, TREES, RANKED_BY_PYTHON = 0, 1, 2
"""Who ranks (`decision_plan.ranker`): nobody, the kernel's trees, Python."""


def planned(
    world: World, window: str | None, sources: Sequence[AnySource], entries: Entries
) -> Plan | None:
    """`sources`: those that are asked, in their order. None where the arrays of C have no room for so many
    sources, rules or columns. The orders of the sources, which follow the catalogue, are left out."""
    assert kernel is not None
    lib, recipe, release, counting = kernel.lib, world.recipe, world.release, world.counting
    made = kernel.ffi.new("decision_plan *")
    codes = entries.codes
    asked, rules = tuple(it.name for it in sources), tuple(it.name for it in entries.rules)
    weights = world.weights
    columns = [column for column in entries.columns if weights.get(column.name)]
    weighted = tuple((column.name, weights[column.name]) for column in columns)
    features = release.features if release is not None else ()
    rooms = (lib.MAX_SOURCES, lib.MAX_RULES, lib.MAX_COLUMNS, lib.MAX_COLUMNS)
    if any(
        len(it) > room for it, room in zip((asked, rules, weighted, features), rooms, strict=True)
    ):
        return None

    made.depth, made.caps_below_one = recipe.depth, recipe.category_cap < 1
    made.category_cap, made.owner_cap = recipe.category_cap, recipe.owner_cap
    made.epsilon, made.fatigue = recipe.exploration.epsilon, recipe.fatigue.factor
    made.half_life = round(recipe.fatigue.half_life_hours * HOUR_MS)
    made.fresh_ms = _ms(recipe.fresh_days) if recipe.fresh_days > 0 else -1
    made.fresh_source_ms = _ms(recipe.fresh_days or UNLIMITED_DAYS)
    repeat = (recipe.repeat.view, recipe.repeat.click, recipe.repeat.purchase)
    made.repeat = [-1 if (ms := duration_ms(text)) is None else ms for text in repeat]
    made.fade, made.vector_fade = fading(counting.fade).tolist(), VECTOR_FADING.tolist()
    mixes = (
        (counting.window, counting.strangers) if window is None else (only(window), only(window))
    )
    made.mix = [_shares(mix) for mix in mixes]
    made.window_day, made.window_week = WINDOWS.index("24h"), WINDOWS.index("7d")
    made.window_variant = VARIANT_MIX.index(1.0)

    made.n_sources = len(asked)
    made.source = [codes["source"][name] for name in asked]
    by_place: dict[int, tuple[Mix, Mix]] = {}
    for at, name in enumerate(asked):
        if name in POPULARITY:
            mix = only(name.removeprefix("popular_")) if name != "popular" else None
            own = mixes if mix is None else (mix, mix)
            by_place[at] = own
            made.source_mix[at] = [_shares(mix) for mix in own]
    made.first_popular = min(by_place, default=-1)
    for name in ("covisit", "vector", "content", "fresh"):
        setattr(made, f"{name}_at", _place(asked, name))

    made.n_rules, made.rule = len(rules), [codes["rule"][name] for name in rules]
    made.variant_rule, made.seen_rule = _place(rules, VARIANT), _place(rules, SEEN)
    made.n_weighted = len(weighted)
    made.weighted = [codes["column"][name] for name, _ in weighted]
    made.why = [_why(column.reason) for column in columns]
    made.weight = [weight for _, weight in weighted]
    made.n_features = len(features)
    made.feature = [codes["column"][name] for name in features]
    trees = release.trees if release is not None else None
    if release is not None and release.rank is not None and recipe.ranker:
        made.ranker = RANKED_BY_PYTHON
        if trees is not None:
            made.ranker, made.trees = TREES, trees.compiled

    made.new_ms, made.similar_cosine = _ms(MAX_NEW_DAYS), MIN_SIMILAR_COSINE
    made.weight_of_action = by_byte(WEIGHT).tolist()
    made.positive, made.seen_bits = POSITIVE.tolist(), BITS.tolist()
    # the pointer to the trees is valid as long as they are
    return Plan(made, asked, rules, weighted, features, by_place, trees)


def row_layout() -> Any:
    """A `decision_layout`: where the fields of a person's row lie."""
    assert kernel is not None
    made = kernel.ffi.new("decision_layout *")
    fields, entry = dict(ROW.fields or {}), dict(ENTRY.fields or {})
    for name in ("n", "ring", "newest", "session_last", "session_n"):
        setattr(made, name, fields[name][1])
    for name in ("item", "time", "ms", "category", "action", "flags"):
        setattr(made, name, entry[name][1])
    made.size, made.entry_size, made.ring_size = ROW.itemsize, ENTRY.itemsize, RING_SIZE
    made.back, made.session_gap, made.affinity_half_life = BACK, GAP_MS, HALF_LIFE_MS
    return made


def _ms(days: float) -> int:
    """As `Case.days_ago` has it."""
    return round(min(days, MAX_DAYS) * DAY_MS)


def _shares(mix: Mix) -> list[float]:
    total = sum(mix)
    return [weight / total for weight in mix]


def _place(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else -1


def _why(reason: str) -> int:
    assert kernel is not None
    return int(getattr(kernel.lib, f"WHY_{reason.upper() or 'NONE'}"))
