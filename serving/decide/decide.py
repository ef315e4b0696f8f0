"""One recommendation: retrieve > eligible > score > rank > arrange > explain, a stage a line.

`decide` is a function of its arguments alone: no clock, no socket, no randomness but the seed of the
request. `serving.read.recommend` reads and assigns before it, and logs after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from models.kernels.loading import kernel
from serving.decide import compiled
from serving.decide.arrange import (
    CATEGORY_CAP,
    HEAD_SLOTS,
    OWNER_CAP,
    Arranged,
    Candidates,
    Limits,
    arrange,
    cap,
    extended,
)
from serving.decide.case import Ask, Case, World
from serving.decide.columns import ALL_COLUMNS
from serving.decide.entries import Entries
from serving.decide.explain import contributions, reasons
from serving.decide.groups import choose, spare, with_groups
from serving.decide.person import Person
from serving.decide.pool import Places, Pool
from serving.decide.rank import feature_rows, rank, ranker_applies
from serving.decide.results import (
    BEYOND,
    EXPLORED,
    SEEN,
    SEEN_BEFORE,
    VARIANT,
    Decision,
    Explain,
    OnStage,
    Ranked,
    Reason,
    Scored,
    Shown,
)
from serving.decide.rules import RULES, Verdict, eligible
from serving.decide.score import score
from serving.decide.sources import SOURCES, least_served, retrieve, shortlist

DEPTH_FACTOR: Final = 50
"""A retrieval that was not enough is done again, this many times deeper."""


ENTRIES: Final = Entries(SOURCES, RULES, ALL_COLUMNS, least_served)
"""What a decision is made of, for the kernel."""


def _unwatched(stage: str, ms: float | None = None) -> None:
    """Nobody asks how long stages take."""


def decide(
    person: Person,
    world: World,
    ask: Ask,
    explain: Explain = "reason",
    on_stage: OnStage = _unwatched,
) -> Decision:
    """The slate for `person` from `world`, as `ask` says. `on_stage` is called with each stage as it ends."""
    if kernel is not None:
        decided = compiled.decide(ENTRIES, person, world, ask, explain, on_stage)
        if decided is not None:
            return decided
    return decide_by_numpy(person, world, ask, explain, on_stage)


def decide_by_numpy(
    person: Person,
    world: World,
    ask: Ask,
    explain: Explain = "reason",
    on_stage: OnStage = _unwatched,
) -> Decision:
    """The definition of `decide`."""
    case = Case(person, world, ask)
    for depth in _depths(world):
        pool = retrieve(case, depth)
        on_stage("retrieve")
        verdict = eligible(case, pool.slots)
        pool, kept, passed_over = choose(case, pool, verdict.kept)
        on_stage("eligible")
        scored = score(case, pool, shortlist(pool, kept))
        on_stage("score")
        ranked = rank(case, pool, scored)
        on_stage("rank")
        arranged = _arrange(case, pool, scored, ranked)
        on_stage("arrange")
        # where all are shown, only a deeper retrieval knows whether the list ends here
        all_shown = len(arranged.places) == len(kept)
        if not (all_shown or _needs_more(case, pool, arranged, depth)):
            break
    again = _seen_before(case, pool, verdict, kept)
    filling = 0
    if len(again) and (short := ask.count - len(arranged.places)) > 0:
        numbers, again = again[:short], again[short:]
        filling = len(numbers)
        scored, ranked, arranged = _filled(case, pool, numbers, scored, arranged)
        kept = np.concatenate([kept, numbers])
        verdict.removed[SEEN] = np.setdiff1d(verdict.removed[SEEN], numbers)
    items = _explained(case, pool, scored, ranked, arranged, explain, filling)
    if pool.chosen is not None:
        candidates = scored.kept[np.array(arranged.places, np.intp)]
        items = with_groups(case, pool, passed_over, items, candidates, explain)
    on_stage("explain")
    return Decision(
        items,
        _fallback(case, pool, ranked),
        arranged.relaxed,
        len(items) < ask.count or len(kept) + len(again) == len(items),
        pool.counts,
        _removed(verdict, len(kept), passed_over, scored, arranged),
        len(kept),
    )


def _depths(world: World) -> Iterator[int]:
    """Depths to retrieve with, until one is enough: for most requests the recipe's depth is."""
    depth = max(1, world.recipe.depth)
    yield depth
    while depth < world.items.count:
        depth *= DEPTH_FACTOR
        yield depth


def _seen_before(case: Case, pool: Pool, verdict: Verdict, kept: Places) -> Places:
    """The candidates that the rule `SEEN` alone removes, by when they were seen, the longest ago first."""
    seen = verdict.removed.get(SEEN, kept[:0])
    if len(seen):
        seen = seen[case.longest_ago(pool.slots[seen])]
        seen = spare(case, pool, kept, seen)
    return seen


def _filled(
    case: Case, pool: Pool, numbers: Places, scored: Scored, arranged: Arranged
) -> tuple[Scored, Ranked, Arranged]:
    """The stages with a slate filled by `numbers`, which follow the others. No draw is among them: a short
    slate has none."""
    chosen = np.concatenate([scored.kept[arranged.places], numbers])
    scored = score(case, pool, np.sort(np.concatenate([scored.kept, numbers])))
    ranked = rank(case, pool, scored)
    places = np.searchsorted(scored.kept, chosen).tolist()
    line, limits = _line(case, pool, scored, ranked), _limits(case)
    arranged = extended(arranged, places, line, case.ask.count, limits, SEEN)
    return scored, ranked, arranged


def _arrange(case: Case, pool: Pool, scored: Scored, ranked: Ranked) -> Arranged:
    return arrange(_line(case, pool, scored, ranked), case.ask.count, _limits(case))


def _line(case: Case, pool: Pool, scored: Scored, ranked: Ranked) -> Candidates:
    world, recipe = case.world, case.world.recipe
    items, slots = world.items, pool.slots[scored.kept]
    return Candidates(
        order=ranked.order,
        category=items.category[slots],
        owner=items.owner[slots],
        fresh=items.titled[slots] & (items.published[slots] > case.days_ago(recipe.fresh_days))
        if recipe.fresh_days > 0
        else None,
        # what is drawn is the least served: an item without a title never is
        served=np.where(items.titled[slots], case.served(slots), np.inf) if case.explores else None,
    )


def _limits(case: Case) -> Limits:
    ask, recipe = case.ask, case.world.recipe
    return Limits(
        category=cap(recipe.category_cap, ask.count),
        owner=cap(recipe.owner_cap, ask.count),
        lifted=ask.category is not None and recipe.category_cap < 1,
        epsilon=recipe.exploration.epsilon,
        seed=ask.seed,
    )


def _needs_more(case: Case, pool: Pool, arranged: Arranged, depth: int) -> bool:
    """Whether more candidates could make the slate longer or fresher, or keep a cap that was relaxed."""
    ask, recipe = case.ask, case.world.recipe
    if len(arranged.places) < ask.count:
        return True
    for rule, column, share in (
        (CATEGORY_CAP, "category", recipe.category_cap),
        (OWNER_CAP, "owner", recipe.owner_cap),
    ):
        if rule in arranged.relaxed and not (rule == CATEGORY_CAP and ask.category is not None):
            available = case.world.filters.count_distinct(column, ask.filter) * cap(
                share, ask.count
            )
            if available >= min(HEAD_SLOTS, ask.count):
                return True
    return not arranged.fresh and len(pool.retrieved["fresh"].slots) >= depth


def _explained(
    case: Case,
    pool: Pool,
    scored: Scored,
    ranked: Ranked,
    arranged: Arranged,
    explain: Explain,
    filling: int,
) -> list[Shown]:
    """The items of the slate; the last `filling` of them were seen before, and fill it."""
    items, places = case.world.items, arranged.places
    candidates = scored.kept[places].tolist() if places else []
    explanations: list[Reason | None] = [None] * len(places)
    if explain != "none":
        explained = places[: len(places) - filling]
        explanations = [*reasons(case, pool, scored, explained), *[SEEN_BEFORE] * filling]
    slots = pool.slots[candidates].tolist()
    scores, categories = ranked.scores[places].tolist(), items.category[slots].tolist()
    shown = [
        Shown(
            slot=slot,
            item_id=items.ids[slot],
            score=total,
            category=items.categories.texts[category],
            reason=reason,
            sources=sources,
            contributions=contributions(case, scored, ranked, place) if explain == "full" else (),
            features=features,
            swapped=place in arranged.swapped,
        )
        for place, slot, total, category, reason, sources, features in zip(
            places,
            slots,
            scores,
            categories,
            explanations,
            pool.provenance(candidates),
            _features(case, pool, scored, ranked, places),
            strict=True,
        )
    ]
    drawn = arranged.drawn
    if drawn is not None:
        shown[-1] = shown[-1]._replace(explore=drawn.explored, probability=drawn.probability)
        if drawn.explored and explain != "none":
            shown[-1] = shown[-1]._replace(reason=EXPLORED)
    return shown


def _features(
    case: Case, pool: Pool, scored: Scored, ranked: Ranked, places: list[int]
) -> list[tuple[float, ...]]:
    """The feature row of each place, whether or not the ranker saw it; () where the ranker did not run."""
    release = case.world.release
    row_of = {place: n for n, place in enumerate(ranked.reranked.tolist())}
    if release is None or not row_of:
        return [()] * len(places)
    features = ranked.rows[[row_of.get(place, 0) for place in places]]
    missed = [n for n, place in enumerate(places) if place not in row_of]
    if missed:
        numbers = scored.kept[[places[n] for n in missed]]
        features[missed] = feature_rows(case, pool, numbers, release.features)
    return [tuple(row) for row in features.tolist()]


def _removed(
    verdict: Verdict, kept: int, passed_over: Places, scored: Scored, arranged: Arranged
) -> dict[str, int]:
    removed = {rule: len(numbers) for rule, numbers in verdict.removed.items()}
    if len(passed_over):
        removed[VARIANT] = removed.get(VARIANT, 0) + len(passed_over)
    removed[BEYOND] = kept - len(scored.kept)
    return removed | dict(arranged.held)


def _fallback(case: Case, pool: Pool, ranked: Ranked) -> str | None:
    for source in ("covisit", "vector", "content"):
        if source in pool.retrieved and len(pool.retrieved[source].slots):
            failed = ranker_applies(case) and not len(ranked.reranked) and len(ranked.order) > 0
            return "content" if source == "content" else "no_model" if failed else None
    return "popular"
