"""Many records in one append: all are in the log, in order, or none is acknowledged; batches may be split."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from infra.kafka import kafka_client
from infra.kafka.names import topic_partition
from infra.kafka.produce.batch import MAX_BATCH_BYTES
from infra.kafka.produce.errors import NotDurable, RecordRefused
from infra.kafka.produce.failure import Failure
from infra.kafka.produce.opener import Opener
from infra.kafka.produce.pending import PendingAppends
from infra.settings import Settings
from schemas.record import Record
from schemas.topics import EVENTS
from serving.log.producer import LogProducer

HEADERS = (("a", b"1"),)


def record(n: int, partition: int, size: int = 100) -> Record:
    # what compresses never comes to a limit
    return Record(b"key%d" % n, partition, b"%d,%b" % (n, random.Random(n).randbytes(size)))


def append(settings: Settings, *requests: Sequence[Record]) -> list[Mapping[int, int]]:
    """What each append gives, all of them at once. Errors: those of `LogProducer.append`."""

    async def main() -> list[Mapping[int, int]]:
        log = await LogProducer.open(settings)
        try:
            found = await asyncio.gather(
                *[log.append(EVENTS.name, request, HEADERS) for request in requests]
            )
            assert log.pending == 0
            return found
        finally:
            await log.close()

    return asyncio.run(main())


def logged(settings: Settings) -> dict[int, list[int]]:
    """Partition -> the numbers of its records, by offset."""
    numbers = defaultdict[int, list[int]](list)
    consumer = kafka_client.consumer(settings)
    try:
        places = [topic_partition(settings, EVENTS.name, p) for p in range(settings.partitions)]
        consumer.assign(places)
        consumer.seek_to_beginning()
        missing = sum(consumer.end_offsets(places).values())
        while missing > 0:
            for place, records in consumer.poll(1000).items():
                missing -= len(records)
                assert {tuple(it.headers) for it in records} <= {HEADERS, (("own", b"2"),)}
                numbers[place.partition] += [int(it.value.split(b",")[0]) for it in records]
    finally:
        consumer.close()
    return numbers


def limit_batches(settings: Settings, size: int) -> None:
    client = kafka_client.admin(settings)
    try:
        config = {"max.message.bytes": str(size)}
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, EVENTS.name, config)])
    finally:
        client.close()


def test_every_record_is_in_the_log_once_in_the_order_of_its_request(settings: Settings) -> None:
    sizes = (100, 900, 90_000)  # of the last a few fill a batch
    requests = [
        [record(1000 * r + n, n % 3, sizes[n % 50 == 7 and 1 + r % 2]) for n in range(700)]
        for r in range(4)
    ]
    offsets = append(settings, *requests)
    found = logged(settings)
    for p in range(3):
        assert sorted(found[p]) == [n for n in range(4000) if n % 1000 < 700 and n % 1000 % 3 == p]
        for r in range(4):
            of_request = [n for n in found[p] if n // 1000 == r]
            assert of_request == sorted(of_request)
            assert found[p][offsets[r][p]] == of_request[-1]


def test_a_record_may_have_headers_of_its_own_and_be_large(settings: Settings) -> None:
    records = [record(n, 0) for n in range(90)]
    records[40] = record(40, 0, MAX_BATCH_BYTES + 1)._replace(headers=(("own", b"2"),))
    assert append(settings, records) == [{0: 89}]
    assert logged(settings)[0] == list(range(90))


def test_batches_that_the_broker_finds_too_large_are_split(settings: Settings) -> None:
    limit_batches(settings, 4_000)
    offsets = append(settings, [record(n, n % 2) for n in range(400)])
    found = logged(settings)
    assert [found[p][offsets[0][p]] for p in (0, 1)] == [398, 399]
    assert found == {p: list(range(p, 400, 2)) for p in (0, 1)}


def test_a_size_that_was_refused_is_forgotten_where_the_topic_says_a_smaller_one(
    settings: Settings,
) -> None:
    async def main() -> list[int]:
        sizes, opener = [], Opener(settings, PendingAppends(), lambda *_: None)
        producer = await opener.open_first()
        # the topic's size, and that of a batch that it refuses
        for limit, refused in ((4_000, 6_000), (100_000, 0), (100_000, 6_000), (100_000, 0)):
            await asyncio.to_thread(limit_batches, settings, limit)
            producer.abort()
            opener.learn(producer, Failure(too_large={EVENTS.name: refused} if refused else {}))
            opener.pause = 0.0
            opened = await opener.open_next()
            assert opened is not None
            producer = opened
            sizes.append(producer.cluster.topics[EVENTS.name].max_batch_bytes)
        producer.abort()
        return sizes

    assert asyncio.run(main()) == [4_000, 100_000, 3_000, 3_000]


@pytest.mark.parametrize("where", [0, 1, 90, 198, 199])
def test_a_record_that_the_broker_refuses_is_not_acknowledged(
    settings: Settings, where: int
) -> None:
    limit_batches(settings, 4_000)
    records = [record(n, 0, 5_000 if n == where else 100) for n in range(200)]
    with pytest.raises(RecordRefused):
        append(settings, records)


def test_a_partition_that_the_topic_lacks_is_an_error(settings: Settings) -> None:
    with pytest.raises(NotDurable):
        append(settings, [record(0, 0), record(1, settings.partitions)])
