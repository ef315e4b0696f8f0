"""Which partitions are paused since nothing but poison comes in them, and letting one go on."""

from __future__ import annotations

from typing import Final, NamedTuple

from infra import generation, store
from infra.settings import Settings
from infra.store import Client
from schemas import fence, keys, poison

FLOWS: Final = {"events": "people", "items": "catalogue", "control": "control"}
"""Topic -> the flow that folds it."""


class Paused(NamedTuple):
    """`row`: how many records in a row, before offset `stands`, no fold could take."""

    topic: str
    flow: str
    partition: int
    row: int
    stands: int


def paused(client: Client, settings: Settings) -> list[Paused]:
    """Errors: Redis's own."""
    live = generation.live(client)
    places = [
        (topic, flow, p)
        for topic, flow in FLOWS.items()
        for p in range(1 if topic == "control" else settings.partitions)
    ]
    names = []
    for _, flow, p in places:
        of = live if flow == "people" else 0
        names += [keys.poison(flow, p, of), keys.fence(flow, p, of), keys.accepted(flow, p)]
    held = store.mget(client, names)
    found = []
    for place, (row, stands, mark) in zip(places, zip(*[iter(held)] * 3, strict=True), strict=True):
        n, at = poison.number(row), fence.decode(stands).offset if stands else 0
        if poison.paused(n, at, poison.number(mark), settings.poison_limit):
            found.append(Paused(*place, n, at))
    return found


def accept(client: Client, topic: str, partition: int, until: int) -> None:
    """Poison before offset `until` is let pass. Errors: KeyError for a topic that no flow folds."""
    client.set(keys.accepted(FLOWS[topic], partition), b"%d" % until)
