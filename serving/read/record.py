"""The records that an answer logs: the whole decision, and for a person the items shown to them."""

from __future__ import annotations

from schemas.alphabet import Millis, Pseudonym
from schemas.events import SURE, Assigned, Served
from schemas.slates import Slate, SlateItem, source
from serving.decide.case import Ask
from serving.decide.results import Decision
from serving.read.answer import Answer


def slate(
    decision: Decision,
    answer: Answer,
    slate_id: str,
    ask: Ask,
    at: Millis,
    person: Pseudonym | None = None,
    experiments: tuple[Assigned, ...] = (),
    session_id: str | None = None,
) -> Slate:
    """The record for `slates` of an answer made at `at` (Unix ms), in the session that the request named."""
    served_by = answer.served_by
    return Slate(
        slate_id=slate_id,
        served_at=at,
        placement=answer.placement,
        person=person,
        items=tuple(
            [
                SlateItem(
                    item_id=item.item_id,
                    rank=rank,
                    score=item.score,
                    category=item.category,
                    sources=item.sources,
                    reason=item.reason.code if item.reason else "",
                    because=item.reason.item_ids if item.reason else (),
                    explore=item.explore,
                    probability=_propensity(item.probability),
                    features=item.features,
                    group=item.group,
                    swapped=item.swapped,
                )
                for rank, item in enumerate(decision.items, 1)
            ]
        ),
        fallback=answer.fallback,
        rules_relaxed=answer.rules_relaxed,
        position=(answer.freshness.position if answer.freshness else None) or "",
        tables=served_by.tables,
        index=served_by.index,
        rules=served_by.rules,
        release=served_by.release,
        now=ask.now,
        seed=ask.seed,
        experiments=experiments,
        took_ms=answer.took_ms,
        session_id=session_id or "",
    )


def served(slate: Slate, person: Pseudonym) -> Served:
    """The record for `events` of a slate with items; at most one slot of it was drawn."""
    return Served(
        person=person,
        slate_id=slate.slate_id,
        placement=slate.placement,
        received_at=slate.served_at,
        items=tuple([item.item_id for item in slate.items]),
        explored=next((item.rank for item in slate.items if item.explore), 0),
        probability=_propensity(min([item.probability for item in slate.items])),
        experiments=slate.experiments,
        took_ms=slate.took_ms,
        fallback=slate.fallback or "",
        release=slate.release,
        session_id=slate.session_id,
        sources=tuple([source(item) for item in slate.items]),
        swapped=tuple([item.rank for item in slate.items if item.swapped]),
    )


def _propensity(probability: float) -> float:
    # the encoder leaves a default out where that very object stands there
    return SURE if probability == SURE else probability
