"""A recipe and a release as the compiled decision reads them, prepared once for many requests."""

from __future__ import annotations

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
from serving.decide.columns import ALL_COLUMNS
from serving.decide.entries import COLUMN_CODES, RULE_CODES, SOURCE_CODES
from serving.decide.explain import MAX_NEW_DAYS, MIN_SIMILAR_COSINE
from serving.decide.groups import VARIANT_MIX
from serving.decide.pool import POPULARITY
from serving.decide.rules import RULES, SEEN, VARIANT
from serving.decide.sources import POPULAR_BY, UNLIMITED_DAYS, Source

MAX_DAYS: Final = 1e6
NO_TREES, TREES, RANKED_BY_PYTHON = 0, 1, 2
"""Who ranks (`decision_plan.ranker`): nobody, the kernel's trees, Python."""


class TooLarge(Exception):
    """The arrays of the compiled decision have no room for so many sources, rules or columns."""


class Plan:
    """`struct` is a `decision_plan`, all but the orders of its sources, which follow the catalogue. Where a field
    is by place, `sources`, `rules`, `weighted` and `features` name what lies there."""

    def __init__(self, world: World, window: str | None, sources: list[Source]) -> None:
        """`sources`: those that are asked, in the order of SOURCES. Errors: `TooLarge`."""
        assert kernel is not None
        lib, recipe, release, counting = kernel.lib, world.recipe, world.release, world.counting
        made = self.struct = kernel.ffi.new("decision_plan *")
        self.sources, self.rules = tuple(it.name for it in sources), tuple(it.name for it in RULES)
        weights = world.weights
        columns = [column for column in ALL_COLUMNS if weights.get(column.name)]
        self.weighted = tuple((column.name, weights[column.name]) for column in columns)
        self.features = release.features if release is not None else ()
        for found, room in (
            (self.sources, lib.MAX_SOURCES),
            (self.rules, lib.MAX_RULES),
            (self.weighted, lib.MAX_COLUMNS),
            (self.features, lib.MAX_COLUMNS),
        ):
            if len(found) > room:
                raise TooLarge

        made.depth, made.caps_below_one = recipe.depth, recipe.category_cap < 1
        made.category_cap, made.owner_cap = recipe.category_cap, recipe.owner_cap
        made.epsilon, made.fatigue = recipe.exploration.epsilon, recipe.fatigue.factor
        made.half_life = round(recipe.fatigue.half_life_hours * HOUR_MS)
        made.fresh_ms = _ms(recipe.fresh_days) if recipe.fresh_days > 0 else -1
        made.fresh_source_ms = _ms(recipe.fresh_days or UNLIMITED_DAYS)
        repeat = (recipe.repeat.view, recipe.repeat.click, recipe.repeat.purchase)
        made.repeat = [-1 if (ms := duration_ms(text)) is None else ms for text in repeat]
        made.fade, made.vector_fade = fading(counting.fade).tolist(), VECTOR_FADING.tolist()
        mixes = (counting.window, counting.strangers) if window is None else (only(window),) * 2
        made.mix = [_shares(mix) for mix in mixes]
        made.window_day, made.window_week = WINDOWS.index("24h"), WINDOWS.index("7d")
        made.window_variant = VARIANT_MIX.index(1.0)

        made.n_sources = len(self.sources)
        self.mixes: dict[int, tuple[Mix, Mix]] = {}
        """Place of a source of popularity -> its mix, for people with an interest and for strangers."""
        for at, name in enumerate(self.sources):
            made.source[at] = SOURCE_CODES[name]
            if name in POPULARITY:
                own = (only(name.removeprefix("popular_")),) * 2 if name in POPULAR_BY else mixes
                self.mixes[at] = (own[0], own[1])
                made.source_mix[at] = [_shares(mix) for mix in own]
        made.first_popular = min(self.mixes, default=-1)
        for name in ("covisit", "vector", "content", "fresh"):
            setattr(made, f"{name}_at", _place(self.sources, name))

        made.n_rules, made.rule = len(self.rules), [RULE_CODES[name] for name in self.rules]
        made.variant_rule, made.seen_rule = _place(self.rules, VARIANT), _place(self.rules, SEEN)
        made.n_weighted = len(self.weighted)
        made.weighted = [COLUMN_CODES[column.name] for column in columns]
        made.why = [_why(column.reason) for column in columns]
        made.weight = [weight for _, weight in self.weighted]
        made.n_features = len(self.features)
        made.feature = [COLUMN_CODES[name] for name in self.features]
        self._trees: Any = None
        if release is not None and release.rank is not None and recipe.ranker:
            made.ranker = RANKED_BY_PYTHON
            if release.trees is not None:
                # the pointer is valid as long as the trees are
                self._trees, made.trees = release.trees, release.trees.compiled
                made.ranker = TREES

        made.new_ms, made.similar_cosine = _ms(MAX_NEW_DAYS), MIN_SIMILAR_COSINE
        made.weight_of_action = by_byte(WEIGHT).tolist()
        made.positive, made.seen_bits = POSITIVE.tolist(), BITS.tolist()


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
