"""The spool is drained by a broker, or over a network, that does not take many records at once."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

from infra.settings import Settings
from schemas.record import Record
from schemas.topics import EVENTS
from tests.support import broken
from tests.support.scripted_broker import PRODUCE, Exchange, ScriptedBroker
from tests.support.writers import ended, until, writing

RECORDS: Final = 800
SIZE: Final = 100
MAX_BYTES: Final = 250 * SIZE
"""Of a request that this broker answers."""
SECONDS: Final = 60.0


async def slow(exchange: Exchange) -> None:
    sizes = [
        len(it.records) for topic in exchange.request.topic_data for it in topic.partition_data
    ]
    if sum(sizes) < MAX_BYTES:
        await exchange.answer()
    else:
        await broken.hung_up_after(exchange)


def test_a_spool_is_drained_by_fewer_records_at_once_where_many_are_not_taken(
    tmp_path: Path,
) -> None:
    # what compresses never comes to a limit
    rnd = random.Random(1)
    values = [b"%d," % n + rnd.randbytes(SIZE) for n in range(RECORDS)]

    async def main() -> None:
        async with (
            ScriptedBroker(tmp_path / "broker").listening() as broker,
            writing(
                Settings(kafka_bootstrap=broker.bootstrap, data_dir=tmp_path / "data", partitions=1)
            ) as writers,
        ):
            broker.script[PRODUCE].append(broken.hung_up_before)
            records = [Record(b"key", 0, value, ()) for value in values]
            broker.always[PRODUCE] = slow
            assert await writers.writes.append(EVENTS.name, records) is None
            await until(lambda: not writers.writes.waiting, SECONDS)
            logged = broker.logged(EVENTS.name)[0]
            last = {value: n for n, value in enumerate(logged)}
            assert sorted(last, key=last.__getitem__) == values

    ended(main, SECONDS)
