"""The entries of `people` in the delta log and of `control` in its hash, for tests that
begin after them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from schemas.control import Experiment, Held, Variant
from schemas.identity import category_hash, item_hash
from schemas.keys import PLAIN
from schemas.state import facts
from schemas.state.facts import STATES, Delta

STARTED = 1_700_000_000_000
AB = Experiment(
    placement="home", variants=(Variant(name="a", share=0.5), Variant(name="b", share=0.5))
)


def entry(
    first: int,
    items: Sequence[str],
    state: str,
    *,
    reward: float = 0.0,
    person: tuple[str, Sequence[int], Sequence[int]] | None = None,
    version: int = 1,
    placement: str = "home",
) -> Delta:
    """Facts of one record: these slots entered `state`. `person`: variant of "e", counts before, after (0 in
    the states that they lack)."""
    n = len(items)
    arms = facts.Arms(
        np.zeros(n, np.uint32),
        np.full(n, category_hash(placement), np.uint32),
        np.array([item_hash(item) for item in items], np.uint64),
        np.full(n, STATES.index(state), np.uint8),
        np.zeros(n, np.uint8),
        np.ones(n, np.int8),
        np.full(n, reward, np.float32),
    )
    if person is None:
        return Delta(first, first + 1, arms=arms)
    variant, before, after = person
    moments = facts.Moments(
        np.zeros(1, np.uint32),
        np.array([category_hash("e")], np.uint32),
        np.array([version], np.uint16),
        np.array([category_hash(variant)], np.uint32),
        np.array([counts(before)], np.uint32),
        np.array([counts(after)], np.uint32),
    )
    return Delta(first, first + 1, arms=arms, moments=moments)


def counts(first: Sequence[int]) -> tuple[int, ...]:
    """Slots by state: these, and none in the other states."""
    return (*first, *[0] * (len(STATES) - len(first)))


def append(client: Any, partition: int, *entries: Delta) -> None:
    """Appends entries as a commit does."""
    for it in entries:
        value = facts.encode(it)
        client.xadd(PLAIN.deltas(partition), {facts.FIELD: value}, id=f"{it.next}-0")


def put_experiment(
    client: Any, experiment: Experiment = AB, version: int = 1, identifier: str = "e"
) -> None:
    """Stores an experiment as `control` does."""
    held = Held(
        version=version,
        body=msgspec.json.encode(experiment).decode(),
        offset=version,
        received_at=STARTED,
    )
    name, value = f"experiment:{identifier}", msgspec.json.encode(held)
    with client.pipeline(transaction=True) as pipe:
        pipe.hset(PLAIN.control_state(), name, value)
        pipe.xadd(PLAIN.control_changes(), {"s": name, "v": value}, id=f"{version}-0")
        pipe.execute()


NONE = (0, 0, 0, 0)
TWO_PEOPLE = (
    entry(0, ["i1", "i2"], "served", person=("a", NONE, (2, 0, 0, 0))),
    entry(1, ["i1", "i3"], "served", person=("b", NONE, (2, 0, 0, 0))),
    entry(2, ["i1"], "clicked", reward=1.0, person=("b", (2, 0, 0, 0), (2, 0, 1, 0))),
    entry(3, ["i1"], "converted", person=("b", (2, 0, 1, 0), (2, 0, 1, 1))),
)
"""One in each variant of "e"; the one in "b" clicks i1 and buys it."""
