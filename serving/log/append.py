"""Passing records to kafka-python's producer: `KafkaProducer.send` without what it does for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from kafka import KafkaProducer

from infra.kafka.names import broker_name, topic_partition
from infra.settings import Settings
from schemas.record import Record

MAX_UNCHECKED_BYTES: Final = 512 * 1024
"""Of a record's value: a producer need not ask whether a smaller one fits into a request."""
FieldList = list[tuple[str, bytes]]
"""Headers, as the producer takes them."""
OnError = Callable[[BaseException], None]


class _Unawaited:
    """Stands for the future of a record whose batch has another one that is awaited."""

    def __init__(self, on_error: OnError) -> None:
        self._on_error = on_error

    def rebind(self, produced: Any, index: int) -> None:
        """The batch is split: the part that the record, its `index`-th, goes to now fails on its own."""

        def check(outcome: Any) -> None:
            _, _, error_of = outcome
            if error_of is not None:
                self._on_error(error_of(index))

        produced.add_callback(check)


class RecordAppender:
    """Passes records of one topic to a producer, as `KafkaProducer.send` does, in a third of its time. What
    that asks and logs of every record is asked once here, or holds of every record of ours (key and value are
    bytes, the partition is chosen). Only the first and the last of the records that go into one batch have a
    future, which fails if that batch does. `wake` has to follow the last `append`.
    """

    def __init__(self, producer: KafkaProducer, settings: Settings, topic: str) -> None:
        name = broker_name(settings, topic)
        self._settings, self._topic, self._name = settings, topic, name
        self._producer, self._accumulator = producer, producer._accumulator
        self._partitions = producer.partitions_for(name) or ()
        self._wakes = False

    def append(
        self, partition: int, records: Sequence[Record], common: FieldList, on_error: OnError
    ) -> Any:
        """Passes records of one partition, in order; those without headers get `common`. Gives the future of
        the last; `on_error` is called, in any thread, with an error of any of them, once or more often.

        Errors: `KafkaError`; AssertionError for a partition that the topic does not have.
        """
        place = future = None
        if partition in self._partitions:
            place = topic_partition(self._settings, self._topic, partition)
        at, last = 0, len(records) - 1
        while at <= last:
            key, _, value, headers = records[at]
            fields = list(headers) if headers else common
            at += 1
            if place is None or len(value) > MAX_UNCHECKED_BYTES:  # `send` says what is wrong
                name = self._name
                future = self._producer.send(name, value, key, fields, partition)
            else:
                future, is_full, is_new, _ = self._accumulator.append(
                    place, None, key, value, fields
                )
                self._wakes = self._wakes or is_full or is_new
                if at < last:
                    at = self._fill(place, future, records, at, common, on_error)
            future.add_errback(on_error)
        return future

    def wake(self) -> None:
        """Lets the producer see batches that are full or new: a write to a socket, so once a request."""
        if self._wakes:
            self._wakes = False
            self._producer._sender.wakeup()

    def _fill(
        self,
        place: Any,
        future: Any,
        records: Sequence[Record],
        at: int,
        common: FieldList,
        on_error: OnError,
    ) -> int:
        """Puts records from `at` on into the batch of `future`, while it takes them, but not the last. Gives
        the index of the first that it did not take."""
        unawaited = _Unawaited(on_error)
        with self._accumulator._tp_lock(place):
            queued = self._accumulator._batches[place]
            batch = queued[-1] if queued else None
            if batch is None or batch.produce_future is not future._produce_future:
                return at  # it is being sent
            append, futures = batch.records.append, batch._record_futures
            for key, _, value, headers in records[at:-1]:
                if len(value) > MAX_UNCHECKED_BYTES:
                    break
                if append(None, key, value, list(headers) if headers else common) is None:
                    break  # it is full, or closed
                futures.append(unawaited)
                at += 1
        return at
