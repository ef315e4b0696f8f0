"""What a protocol makes of a data set: the history, the log that is replayed, and the choices to find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infra.datasets.acts import Acts
from models.arrays import I64, Mask
from schemas.errors import ConfigurationError

Protocol = Literal["prequential", "leave-one-out", "judged"]
PROTOCOLS: Final[tuple[Protocol, ...]] = ("prequential", "leave-one-out", "judged")
Seen = Literal["masked", "kept"]
SEEN: Final[tuple[Seen, ...]] = ("masked", "kept")
"""masked: what a person had is not shown again, and is no target; kept: it may be shown."""
COLUMNS: Final = ("person", "item", "time", "action", "target", "basket", "rated")
"""Of `Acts`: those with a row for each act."""
MAX_TARGETS: Final = 6_000
"""Where no other number is asked for: with 1,500 a ratio's interval is some .07 wide on either side, and says
nothing of a release that is 1.03 x as good."""
SPLIT: Final = 0.8
"""Share of the acts, by time, that is history."""
SPLIT_OF_BASKETS: Final = 0.9
"""Share of the baskets, by time, that is history."""


class CannotEvaluate(ConfigurationError):
    """The data and the options fit no evaluation; the text says why, and what to do."""


class Options(NamedTuple):
    """`split` None: the protocol's own; `targets`: at most so many are drawn, 0: all."""

    protocol: Protocol = "prequential"
    split: float | None = None
    seen: Seen = "masked"
    seed: int = 0
    targets: int = MAX_TARGETS


class EvaluationPlan(NamedTuple):
    """`acts`: n acts that are replayed, in order of time; `history`: the acts that are learnt from.

    `targets` (G,): places in `acts` of the choices, in order of `now`; of a judged list the first act of the
    person after the split. `now` (G,) ms: when each choice was made, which is when its list is made. `split`
    (ms): the first moment that is no history. `judged`: places of the acts of G judged lists, `size` (G,)
    each, one list after the other; empty for other protocols. `excluded`: choices that are no targets, by
    reason.
    """

    protocol: Protocol
    acts: Acts
    history: Acts
    targets: I64
    now: I64
    split: int
    excluded: Counter[str]
    judged: I64
    size: I64


def taken(acts: Acts, which: NDArray[np.intp] | Mask) -> Acts:
    """The acts `which`, with all people and items."""
    return acts._replace(**{name: getattr(acts, name)[which] for name in COLUMNS})


def joined(one: Acts, other: Acts) -> Acts:
    """The acts of `one`, then those of `other`, of the same people and items."""
    both: dict[str, Any] = {
        name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in COLUMNS
    }
    return one._replace(**both)


def by_time(acts: Acts) -> Acts:
    """The acts in order of their time; of one moment in the order that they have."""
    return taken(acts, np.argsort(acts.time, kind="stable"))


def had_before(acts: Acts) -> Mask:
    """(n,) whether the person acted on the item before; `acts` are in order of time."""
    key = acts.person.astype(np.int64) * max(1, len(acts.item_ids)) + acts.item
    before = np.ones(len(key), np.bool_)
    before[np.unique(key, return_index=True)[1]] = False
    return before


def sample(among: I64, most: int, seed: int) -> I64:
    """At most `most` of `among` (0: all), drawn evenly, in their order."""
    if not most or len(among) <= most:
        return among
    drawn = np.random.default_rng(seed).choice(len(among), most, replace=False)
    return among[np.sort(drawn)]


def check(acts: Acts) -> None:
    """Errors: `CannotEvaluate` where no protocol fits the data."""
    if not len(acts.time):
        raise CannotEvaluate(
            "the data holds no act of a person on an item",
            remedy="import events first, or name another set",
        )
    if len(np.unique(acts.item)) < 2:
        raise CannotEvaluate(
            "the data holds acts on one item only, so that there is nothing to rank",
            remedy="name a set of at least two items",
        )


def with_history(plan: EvaluationPlan) -> Iterator[tuple[int, I64]]:
    """Each target, with the places of the acts of its person before it."""
    person = plan.acts.person
    order = np.argsort(person, kind="stable")
    begins = np.searchsorted(person[order], person[plan.targets]).tolist()
    stops = np.searchsorted(person[order], person[plan.targets], "right").tolist()
    for target, begin, end in zip(plan.targets.tolist(), begins, stops, strict=True):
        own = order[begin:end]
        yield target, own[: np.searchsorted(own, target)]
