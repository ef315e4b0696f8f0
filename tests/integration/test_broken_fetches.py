"""Brokers that answer a fetch wrongly, late or not at all: each record is read once and in order, nothing
waits for ever, and the log of the process says what was wrong."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from kafka.errors import (
    CorruptRecordError,
    KafkaConnectionError,
    KafkaError,
    LogTruncationError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    UnknownError,
)
from kafka.protocol.consumer import FetchResponse
from kafka.protocol.metadata import ApiVersionsRequest

from infra.kafka.consume import connection, consumer, log_bounds, wire
from infra.kafka.consume.consumer import Consumer
from infra.settings import Settings
from tests.contract.raw import Peer, batch
from tests.support import broken
from tests.support.scripted_broker import FETCH, METADATA, Exchange, ScriptedBroker, Step

TOPIC: Final = "events"
PARTITIONS: Final = 3
BATCHES, RECORDS = 6, 5
SECONDS: Final = 60.0
"""Of everything that has to end; much longer than it takes."""
CELL: Final = FetchResponse.FetchableTopicResponse.PartitionData
Read = dict[int, list[tuple[int, bytes | None]]]


def changed(change: Callable[[Any], None]) -> Step:
    """`change` gets the first partition of the answer that has records."""

    async def step(exchange: Exchange) -> None:
        answer = await exchange.perform()
        cells = [it for topic in answer.responses for it in topic.partitions]
        change(next((it for it in cells if it.records), cells[0]))
        await exchange.answer(answer)

    return step


def failing(code: int) -> Step:
    def change(cell: Any) -> None:
        cell.error_code, cell.records = code, b""

    return changed(change)


def is_another(cell: Any) -> None:
    cell.partition_index += broken.FAR


def has_half_a_batch(cell: Any) -> None:
    cell.records = cell.records[: len(cell.records) // 2]


def has_another_byte(cell: Any) -> None:
    data = bytearray(cell.records)
    data[70] ^= 1
    cell.records = bytes(data)


def was_cut_off(cell: Any) -> None:
    cell.diverging_epoch = CELL.EpochEndOffset(epoch=0, end_offset=3)


async def of_another_topic(exchange: Exchange) -> None:
    answer = await exchange.perform()
    answer.responses[0].topic = "another"
    await exchange.answer(answer)


async def with_a_partition_twice(exchange: Exchange) -> None:
    answer = await exchange.perform()
    answer.responses[0].partitions += answer.responses[0].partitions[:1]
    await exchange.answer(answer)


async def without_a_partition(exchange: Exchange) -> None:
    answer = await exchange.perform()
    answer.responses[0].partitions.pop()
    await exchange.answer(answer)


ANSWERS: Final[dict[str, tuple[Step, str]]] = {
    "slowly": (broken.slowly, ""),
    "byte by byte": (broken.byte_by_byte, ""),
    "throttled": (broken.throttled, ""),
    "without a partition": (without_a_partition, ""),
    "half": (broken.half, "ended the connection|reset"),
    "hung up before": (broken.hung_up_before, "ended the connection|reset"),
    "hung up after": (broken.hung_up_after, "ended the connection|reset"),
    "half and no more": (broken.half_and_no_more, "no answer within"),
    "silent": (broken.silent, "no answer within"),
    "twice": (broken.twice, "not asked for"),
    "of another request": (broken.of_another_request, "not asked for"),
    "of two gigabytes": (broken.of_two_gigabytes, "an answer of 2147483647 bytes"),
    "of a negative size": (broken.of_negative_size, "an answer of -5 bytes"),
    "of no size": (broken.of_no_size, "an answer of 0 bytes"),
    "cut short": (broken.cut_short, "shorter than"),
    "of garbage": (broken.of_garbage, "shorter than"),
    "of another partition": (changed(is_another), "partition 100[0-2], not asked for"),
    "of another topic": (of_another_topic, "of another topic"),
    "with a partition twice": (with_a_partition_twice, "twice"),
    "with half a batch": (changed(has_half_a_batch), "no batch is whole"),
    **{
        f"with error {code}": (failing(code), name)
        for code, name in {
            3: "UnknownTopicOrPartition", 5: "LeaderNotAvailable", 6: "NotLeaderForPartition",
            9: "ReplicaNotAvailable", 13: "NetworkException", 56: "KafkaStorage",
            74: "FencedLeaderEpoch", 75: "UnknownLeaderEpoch", 78: "OffsetNotAvailable",
        }.items()
    },
}  # fmt: skip
QUICK: Final = ("half", "twice", "cut short", "of another partition", "with error 6")
"""Those of the quick suite."""
ERRORS: Final[dict[str, tuple[Step, type[KafkaError], str]]] = {
    "another byte": (changed(has_another_byte), CorruptRecordError, "not what its sum says"),
    "off the log": (failing(1), OffsetOutOfRangeError, "TopicPartition.*: 0"),
    "cut off": (changed(was_cut_off), LogTruncationError, "was cut off"),
    "forbidden": (failing(29), TopicAuthorizationFailedError, TOPIC),
    "unknown": (failing(-1), UnknownError, "fetching events partition"),
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_PARTITION_BYTES", len(batch([b"0000"] * RECORDS)) + 5)
    monkeypatch.setattr(consumer, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.3)


def values(partition: int) -> list[bytes]:
    return [b"%d %02d" % (partition, n) for n in range(BATCHES * RECORDS)]


EXPECTED: Final = {p: list(enumerate(values(p))) for p in range(PARTITIONS)}


def fill(bootstrap: str) -> None:
    with Peer(bootstrap) as peer:
        assert peer.create(TOPIC, PARTITIONS, 1) == 0
        for p in range(PARTITIONS):
            for n in range(BATCHES):
                its = values(p)[n * RECORDS : (n + 1) * RECORDS]
                assert peer.produce(TOPIC, batch(its), p).error_code == 0


def drain(made: Consumer) -> Read:
    """All records of the log, in the order they came."""
    found: Read = defaultdict(list)
    until = time.monotonic() + SECONDS
    while sum(map(len, found.values())) < PARTITIONS * BATCHES * RECORDS:
        assert time.monotonic() < until, "it does not end"
        for p, pieces in made.poll(0.1).items():
            for records in pieces:
                found[p] += zip(records.offsets, records.values, strict=True)
    return found


def played(folder: Path, play: Callable[[ScriptedBroker], None], nodes: int = 1) -> Read:
    """What a consumer reads from a broker that `play` has prepared. Errors: the consumer's."""

    async def main() -> Read:
        async with ScriptedBroker(folder, nodes).listening() as broker:
            await asyncio.to_thread(fill, broker.bootstrap)
            settings = Settings(kafka_bootstrap=broker.bootstrap)
            with closing(Consumer(settings, TOPIC, 1000)) as made:
                for p in range(PARTITIONS):
                    made.seek(p, 0)
                play(broker)
                return await asyncio.to_thread(drain, made)

    return asyncio.run(main())


@pytest.mark.parametrize(
    "name", [it if it in QUICK else pytest.param(it, marks=pytest.mark.check) for it in ANSWERS]
)
def test_a_wrong_answer_loses_and_doubles_nothing(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    step, said = ANSWERS[name]

    def play(broker: ScriptedBroker) -> None:
        broker.script[FETCH].extend([Exchange.answer, step, step, Exchange.answer, step])

    with caplog.at_level(logging.INFO):
        assert played(tmp_path, play) == EXPECTED
    said_so = [it.getMessage() for it in caplog.records if it.name == consumer.__name__]
    if not said:
        assert said_so == []
        return
    warning, after, *_ = said_so
    assert re.fullmatch(rf"events cannot be fetched \(.*({said}).*\): trying again", warning)
    assert after == "events is fetched again"


@pytest.mark.parametrize("name", ERRORS)
def test_what_no_waiting_mends_is_an_error(name: str, tmp_path: Path) -> None:
    step, error, why = ERRORS[name]
    with pytest.raises(error, match=why):
        played(tmp_path, lambda broker: broker.script[FETCH].append(step))


@pytest.mark.check
@pytest.mark.parametrize("api", [METADATA, ApiVersionsRequest.API_KEY])
@pytest.mark.parametrize(
    "step",
    [broken.half, broken.silent, broken.hung_up_before, broken.of_garbage, broken.cut_short],
)
def test_a_connection_that_cannot_be_made_is_tried_again(
    api: int, step: Step, tmp_path: Path
) -> None:
    assert played(tmp_path, lambda broker: broker.script[api].extend([step] * 2)) == EXPECTED


@pytest.mark.check
@pytest.mark.parametrize(
    "step",
    [
        broken.without_leaders,
        broken.with_leaders_that_are_no_brokers,
        broken.with_leaders_behind_a_closed_port,
    ],
)
def test_a_leader_that_is_not_there_is_looked_for_again(step: Step, tmp_path: Path) -> None:
    # the second: the first one is asked by a new connection, before it is used
    steps = [Exchange.answer, step, Exchange.answer, step]
    assert played(tmp_path, lambda broker: broker.script[METADATA].extend(steps)) == EXPECTED


@pytest.mark.check
@pytest.mark.parametrize("seed", range(4))
def test_leaders_that_move_and_answers_that_fail_by_chance_lose_and_double_nothing(
    seed: int, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    leaders = [1] * PARTITIONS
    quick: Sequence[Step] = [
        step for name, (step, _) in ANSWERS.items() if name not in ("silent", "half and no more")
    ]

    def play(broker: ScriptedBroker) -> None:
        broker.leader_of = lambda partition: leaders[partition]

        async def fetched(exchange: Exchange) -> None:
            if chance.random() < 0.2:
                leaders[chance.randrange(PARTITIONS)] = chance.randint(1, 3)
            step = chance.choice(quick) if chance.random() < 0.4 else Exchange.answer
            await step(exchange)

        async def described(exchange: Exchange) -> None:
            steps = [broken.half, broken.of_garbage, broken.without_leaders]
            await (chance.choice(steps) if chance.random() < 0.2 else Exchange.answer)(exchange)

        broker.always[FETCH], broker.always[METADATA] = fetched, described

    assert played(tmp_path, play, nodes=3) == EXPECTED


def test_a_broker_that_is_away_delays_no_poll_and_no_thread_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is looked for again and again, and that is said once."""
    before = threading.active_count()
    settings = Settings(kafka_bootstrap="127.0.0.1:1")
    with caplog.at_level(logging.INFO), closing(Consumer(settings, TOPIC, 1000)) as made:
        made.seek(0, 0)
        for _ in range(20):
            assert made.poll(0.02) == {}
    assert [it.name for it in caplog.records].count(consumer.__name__) == 1
    until = time.monotonic() + SECONDS
    while threading.active_count() > before:
        assert time.monotonic() < until


def test_offsets_that_nobody_tells_are_an_error_of_kafkas() -> None:
    settings = Settings(kafka_bootstrap="127.0.0.1:1")
    with pytest.raises(KafkaConnectionError, match="refused"):
        log_bounds.bounds(settings, TOPIC, [0], 0.1)
