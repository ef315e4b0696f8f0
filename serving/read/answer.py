"""The answer of a read, as clients get it."""

from __future__ import annotations

import msgspec

from schemas import times
from schemas.alphabet import Millis
from schemas.state.fences import Fence
from serving.decide.person import Person
from serving.decide.results import Shown


class ReasonOut(msgspec.Struct):
    """Why the item is shown. `code` is stable, and a later version may have further ones; `text` is for
    people. `seen_before`: nothing else was left, so an item that the person saw comes back before the
    recipe's `repeat` lets it (`rules_relaxed` has `seen`)."""

    code: str
    text: str
    item_ids: tuple[str, ...]


class ContributionOut(msgspec.Struct):
    """`effect`: what the score would lack without the feature."""

    feature: str
    value: float
    effect: float


class Detail(msgspec.Struct):
    """With explain=full. `probability`: that this slot holds the item, given the items above. `swapped`: the
    fresh rule, the draw or the rule of one variant a group put it where the order by score had another.
    `variants`: the variants of its group that the rule `variant` holds back for it."""

    sources: tuple[str, ...]
    contributions: list[ContributionOut]
    probability: float
    swapped: bool = False
    variants: tuple[str, ...] = ()


class ItemOut(msgspec.Struct, kw_only=True):
    item_id: str
    rank: int
    score: float
    category: str
    explore: bool = False
    reason: ReasonOut | msgspec.UnsetType | None = msgspec.UNSET
    explain: Detail | msgspec.UnsetType = msgspec.UNSET


class Freshness(msgspec.Struct, kw_only=True):
    """How much of the person's history is in the answer.

    `last_event_at`: the newest action in it. `position`: the last record of the person's partition
    that is folded in, committed at `applied_at`; `lag_ms`: from the newest record to that commit.
    `stale`: the record that `after` names is missing, or more than 10,000 records of the partition are, or
    the person's state is cold and not loaded yet.
    """

    last_event_at: str | None = None
    applied_at: str | None = None
    position: str | None = None
    lag_ms: int | None = None
    waited_ms: int = 0
    stale: bool = False
    merge_pending: bool = False


class AssignedOut(msgspec.Struct):
    id: str
    version: int
    variant: str


class ServedBy(msgspec.Struct, kw_only=True):
    """The versions that made the answer. `release`: the trained release; that of this code where none was
    used."""

    release: str
    index: str
    tables: str
    rules: str
    experiments: tuple[AssignedOut, ...] = ()


class Answer(msgspec.Struct, kw_only=True):
    """`fallback`: why it is a lesser answer, null for a full one. `overload`: more is asked than can be done,
    so this is the popular list. Nothing is logged of it: `slate_id` and `freshness` are null. `exclude`,
    `filter`, `cursor`, `after`, `explain` and what the person saw did not count."""

    slate_id: str | None
    user_id: str | msgspec.UnsetType | None = msgspec.UNSET
    anonymous_id: str | msgspec.UnsetType = msgspec.UNSET
    placement: str
    items: list[ItemOut]
    next_cursor: str | None
    exhausted: bool
    fallback: str | None
    rules_relaxed: tuple[str, ...]
    freshness: Freshness | None
    served_by: ServedBy
    took_ms: float


class PageOut(msgspec.Struct):
    """The answers to the rows of a page, in their order."""

    rows: list[Answer]


def items_out(shown: list[Shown], *, full: bool) -> list[ItemOut]:
    """The items with their reasons; `full`: with sources, contributions and probability."""
    return [
        ItemOut(
            item_id=item.item_id,
            rank=rank,
            score=round(item.score, 6),
            category=item.category,
            explore=item.explore,
            reason=ReasonOut(*item.reason) if item.reason else msgspec.UNSET,
            explain=_detail(item) if full else msgspec.UNSET,
        )
        for rank, item in enumerate(shown, 1)
    ]


def _detail(item: Shown) -> Detail:
    contributions = [ContributionOut(*each) for each in item.contributions]
    return Detail(item.sources, contributions, item.probability, item.swapped, item.variants)


def freshness(person: Person, partition: int, waited_ms: int, stale: bool) -> Freshness:
    newest, fence = person.newest, person.fence
    return Freshness(
        last_event_at=times.render(newest) if newest else None,
        applied_at=times.render(fence.committed_at) if fence else None,
        position=position(partition, fence),
        lag_ms=lag(fence),
        waited_ms=waited_ms,
        stale=stale,
        merge_pending=person.links.pending > 0,
    )


def position(partition: int, fence: Fence | None) -> str | None:
    """The last record folded in, as clients see it; None where there is none."""
    return f"{partition}:{fence.offset - 1}" if fence and fence.offset else None


def lag(fence: Fence | None) -> Millis | None:
    """Milliseconds from the newest record to the commit that folded it in; None where there is none."""
    return max(0, fence.committed_at - fence.newest) if fence and fence.newest else None
