"""The demo's simulated people: made from its data, with a history of items they found by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np

from infra.client.history import Line
from infra.datasets.movielens import Dataset
from models.simulator import truth
from models.simulator.people import People
from schemas.times import DAY_MS, iso

PICKS_PER_PERSON: Final = 30
"""Items that each person has found before the first recommendation."""
PICK_GAP_MS: Final = 60_000
"""ms between two picks of one sitting."""
_HISTORY_DAYS: Final = 30


class Audience:
    """`count` simulated people over a catalogue. `people`: their true tastes."""

    def __init__(self, dataset: Dataset, count: int, seed: int) -> None:
        self.item_ids = [it.item_id for it in dataset.items]
        self.slots = {item_id: slot for slot, item_id in enumerate(self.item_ids)}
        raters = {it.user_id: 0 for it in dataset.ratings}
        raters = {name: n for n, name in enumerate(raters)}
        person = np.array([raters[it.user_id] for it in dataset.ratings], np.int64)
        item = np.array([self.slots[it.item_id] for it in dataset.ratings], np.int64)
        rng = np.random.default_rng(seed)
        u, v = truth.factors(person, item, len(raters), len(self.item_ids))
        counts = np.bincount(item, minlength=len(self.item_ids))
        items = truth.items(v, counts, [it.category for it in dataset.items], rng)
        self.people = People(items, truth.tastes(u), count, rng)
        self.names = [f"sim-{n + 1:04}" for n in range(count)]

    def history(self, until: int) -> Iterator[Line]:
        """Their picks in the month before `until` (ms), as lines of an import."""
        for person, name in enumerate(self.names):
            sittings = self.people.picks(person, PICKS_PER_PERSON)
            for n, sitting in enumerate(sittings):
                # evenly over the month, each person at another hour
                at = (
                    until
                    - _HISTORY_DAYS * DAY_MS * (len(sittings) - n) // len(sittings)
                    + 7_000 * person
                )
                for m, slot in enumerate(sitting):
                    body = self._pick(name, slot, at + m * PICK_GAP_MS)
                    yield Line(name, msgspec.json.encode(body))

    def _pick(self, name: str, slot: int, at: int) -> dict[str, Any]:
        item_id = self.item_ids[slot]
        return {
            "event_id": f"pick-{name}-{item_id}",
            "user_id": name,
            "item_id": item_id,
            "action": "view",
            "occurred_at": iso(at),
        }
