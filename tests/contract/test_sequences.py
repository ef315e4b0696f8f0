"""Idempotent producers: exactly once in the log, in order."""

from __future__ import annotations

from dataclasses import dataclass

from tests.contract.conftest import quick
from tests.contract.raw import Peer, batch

LAST = 2**31 - 1


@dataclass
class Producer:
    peer: Peer
    topic: str
    id: int
    epoch: int = 0

    def send(self, sequence: int, count: int = 1) -> tuple[int, int]:
        """(error code, base offset)."""
        data = batch([b"x"] * count, producer=(self.id, self.epoch, sequence))
        answer = self.peer.produce(self.topic, data)
        return answer.error_code, answer.base_offset


@quick
def test_repeats_of_the_last_five_are_answered_with_their_offset(peer: Peer, topic: str) -> None:
    producer = Producer(peer, topic, peer.new_producer())
    for n in range(7):
        assert producer.send(2 * n, 2) == (0, 2 * n)
    for n in range(2, 7):
        assert producer.send(2 * n, 2) == (0, 2 * n)
    assert producer.send(0, 2)[0] == 45  # older than the last five
    assert producer.send(13, 2)[0] == 45  # overlap
    assert producer.send(16, 2)[0] == 45  # gap
    assert peer.offset_at(topic, -1) == (0, 14)
    assert producer.send(14, 2) == (0, 14)


@quick
def test_a_new_epoch_begins_at_zero_and_fences_the_old(peer: Peer, topic: str) -> None:
    producer = Producer(peer, topic, peer.new_producer())
    assert producer.send(0) == (0, 0)
    producer.epoch = 1
    assert producer.send(3)[0] == 45
    assert producer.send(0) == (0, 1)
    assert producer.send(1) == (0, 2)
    producer.epoch = 0
    assert producer.send(1)[0] == 47


@quick
def test_sequences_wrap_to_zero(peer: Peer, topic: str) -> None:
    producer = Producer(peer, topic, peer.new_producer())
    assert producer.send(LAST - 1, 2) == (0, 0)
    assert producer.send(0) == (0, 2)
    assert producer.send(1) == (0, 3)
    crossing = Producer(peer, topic, peer.new_producer())
    assert crossing.send(LAST, 3) == (0, 4)
    assert crossing.send(2) == (0, 7)
    assert crossing.send(LAST, 3) == (0, 4)


def test_an_unknown_producer_may_begin_anywhere(peer: Peer, topic: str) -> None:
    assert Producer(peer, topic, peer.new_producer()).send(17) == (0, 0)


def test_producer_ids_are_never_reused(peer: Peer) -> None:
    ids = [peer.new_producer() for _ in range(20)]
    assert len(set(ids)) == 20
