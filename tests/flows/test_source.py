"""A worker reads all its partitions at once, waits for none of them, and starts each again by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest

from flows.kit.source import Reader
from infra.kafka import kafka_client
from infra.log_reader import Batch
from infra.settings import Settings
from schemas.topics import EVENTS
from tests.support.waits import until


@pytest.fixture
def reader(settings: Settings) -> Iterator[Reader]:
    with closing(Reader(msgspec.structs.replace(settings, batch=3), EVENTS.name)) as made:
        made.assign(dict.fromkeys(range(settings.partitions), 0))
        yield made


def send(settings: Settings, *counts: int) -> None:
    """So many records to each partition: 0, 1, …"""
    with closing(kafka_client.producer(settings, linger_ms=20)) as producer:
        for p, count in enumerate(counts):
            for n in range(count):
                producer.send(EVENTS.name, value=b"%d" % n, partition=p)
        producer.flush()


def read(reader: Reader) -> list[Batch]:
    while not (batches := reader.next()):
        pass
    return batches


def spans(batches: list[Batch]) -> list[tuple[int, int, int]]:
    return [(it.partition, it.first, it.next) for it in batches]


def commit(reader: Reader, batches: list[Batch]) -> None:
    for it in batches:
        assert reader.committed(it.partition) is it


def test_one_read_brings_a_batch_of_each_partition(settings: Settings, reader: Reader) -> None:
    send(settings, 7, 2)
    batches = read(reader)
    assert spans(batches) == [(0, 0, 3), (1, 0, 2)]
    assert batches[0].values == [b"0", b"1", b"2"]
    assert reader.next() == []  # neither is committed
    assert reader.committed(0) is batches[0]
    assert reader.next() == []
    commit(reader, batches[1:])
    for expected in ([(0, 3, 6)], [(0, 6, 7)]):
        batches = read(reader)
        assert spans(batches) == expected
        commit(reader, batches)


def test_a_partition_that_is_sought_starts_again_and_the_others_go_on(
    settings: Settings, reader: Reader
) -> None:
    send(settings, 5, 5)
    batches = read(reader)
    reader.committed(0)
    reader.seek(1, 1)
    assert reader.under_way(1) is None
    assert spans(read(reader)) == [(0, 3, 5)]
    reader.committed(0)
    batches = read(reader)
    assert spans(batches) == [(1, 1, 4)]
    assert batches[0].values == [b"1", b"2", b"3"]


def test_a_partition_that_is_dropped_is_read_no_more_until_it_is_sought(
    settings: Settings, reader: Reader
) -> None:
    send(settings, 2, 2)
    read(reader)
    reader.committed(0)
    reader.drop(1)
    send(settings, 1, 1)
    batches = read(reader)
    assert spans(batches) == [(0, 2, 3)]
    commit(reader, batches)
    assert reader.next() == []
    reader.seek(1, 0)
    assert spans(read(reader)) == [(1, 0, 3)]


def test_a_partition_that_is_paused_goes_on_where_it_was(
    settings: Settings, reader: Reader
) -> None:
    send(settings, 4, 4)
    batches = read(reader)
    commit(reader, batches)
    reader.pause(0)
    batches = read(reader)
    assert spans(batches) == [(1, 3, 4)]
    commit(reader, batches)
    reader.resume(0)
    assert spans(read(reader)) == [(0, 3, 4)]


def test_other_work_is_done_between_reads_only_and_a_stop_ends_them(
    settings: Settings, reader: Reader
) -> None:
    done: list[bool] = []
    reader.before_poll = lambda: done.append(reader.under_way(0) is None)
    send(settings, 5)
    read(reader)
    assert done == [True] * len(done)
    before = len(done)
    assert reader.next() == []
    assert len(done) == before
    reader.committed(0)
    reader.stop.set()
    with pytest.raises(StopIteration):
        reader.next()


def test_a_stop_is_seen_while_a_fetch_waits(settings: Settings, reader: Reader) -> None:
    ended = threading.Event()

    def run() -> None:
        try:
            while True:
                reader.next()
        except StopIteration:
            ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: reader.consumer.requests > 0)
    assert reader.consumer.requests == 1
    reader.stop.set()
    thread.join()
    assert ended.is_set()
    assert reader.consumer.requests == 1  # it did not wait for the answer


def test_up_to_the_end_it_stops_at_what_was_there_at_the_start(settings: Settings) -> None:
    send(settings, 4, 1)
    with closing(Reader(settings, EVENTS.name, until_end=True)) as reader:
        reader.assign({0: 1, 1: 1, 2: 0})
        reader.pause(2)
        commit(reader, read(reader))
        with pytest.raises(StopIteration):
            reader.next()
