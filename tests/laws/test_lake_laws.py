"""Under any faults of its writers the chain in a manifest is the log: each record once, in order."""

from __future__ import annotations

from typing import Any, Final

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flows.kit.commit import Fenced
from flows.lake.partition import Owner, flow_name
from infra.kafka.kafka_client import TopicInfo
from infra.lake.compact import compact
from infra.lake.reader import Lake
from infra.lake.store import Store
from infra.settings import Settings
from infra.store import redis_client
from schemas.keys import PLAIN
from schemas.lake import BY_TOPIC, ManifestEntry
from schemas.topics import EVENTS
from tests.support import lakes
from tests.support.lakes import DAY

END: Final = 40
INFO: Final = TopicInfo("topic", 4)
VALUES: Final = [b"record %d" % n for n in range(END)]
FENCE: Final = PLAIN.fence(flow_name(EVENTS.name), 0)


class Writer:
    """One process that puts, moves and adds, in this order, until it is killed or fenced."""

    def __init__(self, client: Any, lake: Lake) -> None:
        table = BY_TOPIC[EVENTS.name]
        self.owner: Owner | None = Owner(client, lake.store, table, 0, INFO, (0, END), PLAIN)
        self.put_: ManifestEntry | None = None
        self.moved: ManifestEntry | None = None

    def put(self, size: int) -> None:
        if self.owner and not self.put_ and not self.moved:
            start = self.owner.fence.offset
            end = min(END, start + size)
            if start < end:
                self.put_ = self.owner.put(
                    [lakes.batch(start, VALUES[start:end], [DAY + n for n in range(start, end)])]
                )

    def move(self) -> None:
        if self.owner and self.put_:
            try:
                self.owner.move(self.put_)
                self.moved = self.put_
            except Fenced:
                self.owner = None
            self.put_ = None

    def add(self) -> None:
        if self.owner and self.moved:
            self.owner.add(self.moved)
            self.moved = None


STEPS: Final = {"put": ("put",), "put, move": ("put", "move"), "commit": ("put", "move", "add"),
                "move": ("move",), "add": ("add",), "finish": ("move", "add")}  # fmt: skip
steps = st.tuples(
    st.sampled_from([*STEPS, *STEPS, "start", "lose", "compact"]),
    st.integers(0, 1),
    st.integers(1, 6),
)


def holds(lake: Lake) -> int:
    """Asserts that the chain is the log up to the chain's end, and answers that end."""
    end = lake.bounds(EVENTS.name, 0)[1]
    found = lakes.everything(lake)
    assert found.offsets == list(range(end))
    assert found.values == VALUES[:end]
    return end


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example([("put, move", 0, 5), ("start", 1, 1), ("commit", 1, 3), ("add", 0, 1)])
@example([("put, move", 0, 5), ("lose", 0, 9), ("start", 1, 1), ("commit", 1, 3), ("add", 0, 1)])
@given(st.lists(steps, min_size=8, max_size=30))
def test_any_interleaving_of_owners_zombies_kills_and_losses_is_the_log(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    """`lose`: Redis is set back to a fence that it had before, or to none. Where it never is, each record
    is in one file of the manifest alone."""
    client = redis_client.connect(Settings(redis_url=redis_url))
    client.flushall()
    lake = Lake(Store(str(tmp_path_factory.mktemp("lake"))))
    writers = [Writer(client, lake), Writer(client, lake)]
    past: list[bytes | None] = [None]
    reached, lossless = 0, True
    for what, which, size in steps:
        if what == "start":  # the one before was killed
            writers[which] = Writer(client, lake)
        elif what == "lose":
            set_back(client, past[-size] if size < len(past) else None)
        elif what == "compact":
            compact(lake, EVENTS.name, 0, DAY, all_=True)
        else:
            for step in STEPS[what]:
                writers[which].put(size) if step == "put" else getattr(writers[which], step)()
        past.append(client.get(FENCE))
        end = lake.bounds(EVENTS.name, 0)[1]  # nor has it a hole
        assert end >= reached, "what was in the lake is gone"
        lossless &= what not in ("lose", "compact")
        if lossless:
            spans = lake.manifest(EVENTS.name, 0).spans()
            assert sum(it.end - it.start for it in spans) == end, "something was written twice"
        reached = end
    holds(lake)
    # the next writer adds the rest
    last = Writer(client, lake)
    assert last.owner is not None
    while last.owner.fence.offset < END:
        last.put(7)
        last.move()
        last.add()
    assert holds(lake) == END
    client.close()


def set_back(client: redis.Redis, held: bytes | None) -> None:
    if held is None:
        client.delete(FENCE)
    else:
        client.set(FENCE, held)
