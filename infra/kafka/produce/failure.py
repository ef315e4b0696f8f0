"""Why a producer ends: what each append is told, what the log says, and how soon the next one is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from kafka.errors import (
    ClusterAuthorizationFailedError,
    CorruptRecordError,
    InvalidProducerEpochError,
    InvalidRecordError,
    InvalidTimestampError,
    KafkaStorageError,
    LeaderNotAvailableError,
    MessageSizeTooLargeError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    NotLeaderForPartitionError,
    OutOfOrderSequenceNumberError,
    ProducerFencedError,
    RecordListTooLargeError,
    ReplicaNotAvailableError,
    TopicAuthorizationFailedError,
    UnknownProducerIdError,
    UnknownTopicOrPartitionError,
    for_code,
)

from infra.kafka.produce.batch import ProducerBatch
from infra.kafka.produce.errors import NotDurable, RecordRefused, TimeRefused
from infra.kafka.produce.pending import PendingAppend

_TOO_LARGE: Final = {MessageSizeTooLargeError.errno, RecordListTooLargeError.errno}
_REFUSED: Final = {*_TOO_LARGE, InvalidRecordError.errno, CorruptRecordError.errno}
_MOVED: Final = {
    UnknownTopicOrPartitionError.errno,
    LeaderNotAvailableError.errno,
    NotLeaderForPartitionError.errno,
    ReplicaNotAvailableError.errno,
    KafkaStorageError.errno,
}
_REPLICAS: Final = {NotEnoughReplicasError.errno, NotEnoughReplicasAfterAppendError.errno}
_FORBIDDEN: Final = {TopicAuthorizationFailedError.errno, ClusterAuthorizationFailedError.errno}
_FENCED: Final = {InvalidProducerEpochError.errno, ProducerFencedError.errno}
_PRODUCER: Final = {*_FENCED, OutOfOrderSequenceNumberError.errno, UnknownProducerIdError.errno}
AWAY: Final = "the broker is away"


class BatchError(NamedTuple):
    """Kafka's code for a batch of `topic`, the broker's name of it."""

    topic: str
    batch: ProducerBatch
    code: int


class Failure(NamedTuple):
    """`errors`: of the appends that get another one than `NotDurable`. `too_large`: topic -> size of a batch
    of several records that it does not take. `lasts`: the next producer would meet it again, so it is opened
    after a pause. `keeps_id`: no newer epoch fences off the producer's id, so the next one goes on with it.
    `remedy`: a sentence for who runs it, "" for none."""

    why: str = AWAY
    errors: Mapping[PendingAppend, NotDurable] = {}
    too_large: Mapping[str, int] = {}
    lasts: bool = False
    keeps_id: bool = True
    remedy: str = ""


def of_batches(failed: Sequence[BatchError]) -> Failure:
    """The failure of an answer in which at least one batch has an error."""
    codes = {it.code for it in failed}
    if codes <= _REFUSED | {InvalidTimestampError.errno}:
        return _of_records(failed)
    errors = _of_records([it for it in failed if it.code in _REFUSED]).errors
    if forbidden := codes & _FORBIDDEN:
        topics = ", ".join(sorted({it.topic for it in failed if it.code in forbidden}))
        remedy = f"the broker does not let this user write to {topics}: allow Write on it"
        return Failure("the broker forbids a write", errors, lasts=True, remedy=remedy)
    if codes & _REPLICAS:
        return Failure("the broker has too few replicas in sync", errors, lasts=True)
    if codes & _MOVED:
        return Failure("a partition's leader has moved", errors)
    if codes & _PRODUCER:
        why = "the broker does not know this producer any more"
        return Failure(why, errors, keeps_id=not codes & _FENCED)
    return Failure(f"the broker fails ({for_code(min(codes)).__name__})", errors)


def _of_records(failed: Sequence[BatchError]) -> Failure:
    """Records are wrong, not the broker. One record that is not taken fails its whole batch: where records of
    other appends are in there, all are told `NotDurable`, so each is sent alone later."""
    errors: dict[PendingAppend, NotDurable] = {}
    too_large: dict[str, int] = {}
    for topic, batch, code in failed:
        appends = [append for append, _ in batch.appends]
        if code == InvalidTimestampError.errno:  # one clock made all of them
            errors |= {append: TimeRefused() for append in appends}
        elif code in _TOO_LARGE and batch.count > 1:
            too_large[topic] = min(batch.size, too_large.get(topic, batch.size))
        elif len(appends) == 1:
            errors[appends[0]] = RecordRefused()
    return Failure("the broker refused a record", errors, too_large)
