"""Faults by chance for some seconds: leaders move, answers are wrong, requests land late. What is
acknowledged is in the log in order, and the producer serves again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from kafka.protocol.producer import InitProducerIdRequest

from infra.settings import Settings
from schemas.topics import EVENTS
from tests.support import broken
from tests.support.scripted_broker import METADATA, PRODUCE, Exchange, ScriptedBroker, Step
from tests.support.whole import WHOLE
from tests.support.writers import ended, writing

PARTITIONS: Final = 3
NODES: Final = 3
FAULT_SECONDS: Final = 6.0
SECONDS: Final = 90.0
"""Of everything that has to end; much longer than it takes."""
NOTHING_DONE: Final = (3, 5, 6, 7, 14, 19, 29, 45, 47, 56, 59, 90, -1)
DONE: Final = (6, 7, 20)
ANSWERS: Final[Sequence[Step]] = (
    broken.slowly,
    broken.byte_by_byte,
    broken.half,
    broken.twice,
    broken.of_another_request,
    broken.for_another_partition,
    broken.without_a_partition,
    broken.with_a_partition_twice,
    broken.cut_short,
    broken.of_garbage,
    broken.hung_up_before,
    broken.hung_up_after,
    *map(broken.refused_with, NOTHING_DONE),
    *map(broken.one_refused_with, NOTHING_DONE),
    *map(broken.done_but_refused_with, DONE),
)
OTHERS: Final[Sequence[Step]] = (
    broken.half,
    broken.hung_up_before,
    broken.hung_up_after,
    broken.of_garbage,
    broken.cut_short,
)
"""What befalls requests other than Produce."""


class Chance:
    """Breaks `broker` as `seed` says."""

    def __init__(self, broker: ScriptedBroker, seed: int) -> None:
        self._random, self._late = random.Random(seed), list[broken.Late]()
        self._leaders = [1] * PARTITIONS
        broker.leader_of = lambda partition: self._leaders[partition]
        metadata = (*OTHERS, broken.without_leaders, broken.with_leaders_behind_a_closed_port)
        broker.always[PRODUCE] = self._some((*ANSWERS, *[self._lands_late] * 6), 0.05)
        broker.always[METADATA] = self._some(metadata, 0.05)
        broker.always[InitProducerIdRequest.API_KEY] = self._some(OTHERS, 0.2)

    async def run(self, seconds: float) -> None:
        """Moves leaders, and lets land what is late, for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(self._random.uniform(0.0, 0.5))
            if self._random.random() < 0.2:
                self._leaders[self._random.randrange(PARTITIONS)] = self._random.randint(1, NODES)
            await self.land()

    async def land(self) -> None:
        late, self._late = self._late, []
        for each in late:
            await each.land()

    def _some(self, steps: Sequence[Step], share: float) -> Step:
        async def step(exchange: Exchange) -> None:
            is_broken = self._random.random() < share
            await (self._random.choice(steps) if is_broken else Exchange.answer)(exchange)

        return step

    async def _lands_late(self, exchange: Exchange) -> None:
        late = broken.Late()
        await late.step(exchange)
        self._late.append(late)


@pytest.mark.check
@pytest.mark.parametrize("seed", range(2 if WHOLE else 1))
def test_what_is_acknowledged_is_in_the_log_whatever_befalls_the_brokers(
    seed: int, tmp_path: Path
) -> None:
    async def main() -> None:
        async with ScriptedBroker(tmp_path / "broker", NODES).listening() as broker:
            settings = Settings(
                kafka_bootstrap=broker.bootstrap, data_dir=tmp_path / "data", partitions=PARTITIONS
            )
            async with writing(settings) as writers:
                await writers.append_each()
                chance = Chance(broker, seed)
                async with writers.appending():
                    await chance.run(FAULT_SECONDS)
                broker.always.clear()
                await chance.land()
                await writers.settle(SECONDS)
                assert writers.offsets
                assert writers.spooled
                assert not writers.failed
                writers.check(broker.logged(EVENTS.name))

    ended(main, 2 * SECONDS)
