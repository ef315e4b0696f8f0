"""What waits for one partition: batches of bounded size, sequences, and what may be under way together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch

from infra.kafka.produce.batch import REMEMBERED_SECONDS, PartitionQueue
from infra.kafka.produce.outcome import AppendOutcome
from infra.kafka.produce.pending import PendingAppend, PendingAppends
from infra.kafka.produce.record_batch import SEQUENCES, ProducerId
from schemas.record import Record

PRODUCER = ProducerId(7, 1)


def append() -> PendingAppend:
    return PendingAppend(lambda _: None)


@given(
    st.lists(st.lists(st.integers(0, 400), min_size=1, max_size=9), min_size=1, max_size=9),
    st.integers(1, 1500),
    st.integers(SEQUENCES - 30, SEQUENCES - 1),
)
def test_records_are_cut_into_batches_in_order(
    requests: list[list[int]], limit: int, sequence: int
) -> None:
    queue = PartitionQueue(b"events", 0, limit)
    queue.sequence = sequence
    numbers = iter(range(10_000))
    appends = []
    for sizes in requests:
        appends.append(append())
        records = [Record(b"%d" % next(numbers), 0, b"v" * size) for size in sizes]
        queue.add(records, 1, b"\0", appends[-1])
    found: list[bytes] = []
    last: dict[PendingAppend, int] = {}
    while size := queue.next_size(0.0):
        batch, data = queue.take(PRODUCER)
        queue.acknowledge(0.0)
        read = DefaultRecordBatch(data)
        assert size <= limit or batch.count == 1
        assert len(data) <= size
        assert read.base_sequence == (sequence + len(found)) % SEQUENCES
        for each, index in batch.appends:
            last[each] = len(found) + index
            each.remaining -= 1
        found += [record.key for record in read]
        assert len(found) - 1 in last.values()
    assert found == [b"%d" % n for n in range(len(found))]
    assert len(found) == sum(map(len, requests))
    last_indexes = [sum(map(len, requests[: n + 1])) - 1 for n in range(len(requests))]
    assert [last[it] for it in appends] == last_indexes
    assert not any(it.remaining for it in appends)
    assert queue.sequence == (sequence + len(found)) % SEQUENCES


def test_the_first_batch_of_a_producer_goes_alone() -> None:
    """A broker takes any sequence of a producer that it does not know, so also that of a second batch whose
    first one it refused."""
    queue = PartitionQueue(b"events", 0, 100)
    for _ in range(4):
        queue.add([Record(b"k", 0, b"v" * 99)], 1, b"\0", append())
    assert queue.next_size(0.0)
    queue.take(PRODUCER)
    assert not queue.next_size(0.0)
    queue.acknowledge(1.0)
    queue.take(PRODUCER)
    assert queue.next_size(2.0)
    assert not queue.next_size(2.0 + REMEMBERED_SECONDS), "it may be forgotten by now"
    queue.take(PRODUCER)
    queue.acknowledge(2.0 + REMEMBERED_SECONDS)
    assert queue.next_size(2.0 + REMEMBERED_SECONDS)


def test_all_that_is_under_way_fails_in_its_order() -> None:
    called: list[int] = []
    pending = PendingAppends()

    def add(number: int) -> PendingAppend:
        def done(outcome: AppendOutcome) -> None:
            assert outcome.error is not None
            called.append(number)

        made = PendingAppend(done)
        pending.add(made)
        return made

    appends = [add(number) for number in range(5)]
    assert pending.oldest == appends[0].since
    pending.fail()
    assert called == [0, 1, 2, 3, 4]
    assert pending.oldest is None
    assert len(pending) == 0
    appends[2].remaining = 1
    pending.acknowledge(appends[2], 0, 7)
    assert called == [0, 1, 2, 3, 4], "what has failed stays so"
