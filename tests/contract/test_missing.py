"""What the embedded broker does not do: a clear error code for it, and a line in its log."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka.errors import TransactionalIdAuthorizationFailedError
from kafka.protocol.admin import CreatePartitionsRequest, CreateTopicsRequest
from kafka.protocol.metadata import ApiVersionsRequest, FindCoordinatorRequest
from kafka.protocol.producer import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    TxnOffsetCommitRequest,
)

from tests.contract.conftest import Embedded, new_topic, quick
from tests.contract.raw import Peer, batch, eventually, fetch_request, fresh, with_field
from tests.contract.test_topics import alter, described

NO_TRANSACTIONS = 53
TRANSACTION = {"transactional_id": "tx", "producer_id": 1, "producer_epoch": 0}


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """An embedded broker whose log belongs to this module."""
    broker = Embedded(tmp_path_factory.mktemp("lacking") / "data")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def own_peer(own_broker: Embedded) -> Peer:
    """A connection to the broker of this module."""
    return Peer(own_broker.bootstrap)


def is_logged_once(broker: Embedded, what: str) -> bool:
    """Whether the broker's log says exactly once that it has no `what`."""
    return broker.said().count(f"this broker has no {what}") == 1


def transactional() -> dict[str, Any]:
    """Every request of a transaction, by what it is for."""
    topic = AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(name="t", partitions=[0])
    offsets = TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic
    partition = offsets.TxnOffsetCommitRequestPartition(
        partition_index=0, committed_offset=1, committed_leader_epoch=-1, committed_metadata=""
    )
    return {
        "begin": InitProducerIdRequest(
            transactional_id="tx",
            transaction_timeout_ms=1000,
            producer_id=-1,
            producer_epoch=-1,
        ),
        "add": AddPartitionsToTxnRequest(
            v3_and_below_transactional_id="tx",
            v3_and_below_producer_id=1,
            v3_and_below_producer_epoch=0,
            v3_and_below_topics=[topic],
        ),
        "offsets": AddOffsetsToTxnRequest(group_id="g", **TRANSACTION),
        "commit-offsets": TxnOffsetCommitRequest(
            group_id="g",
            generation_id=-1,
            member_id="",
            group_instance_id=None,
            topics=[offsets(name="t", partitions=[partition])],
            **TRANSACTION,
        ),
        "end": EndTxnRequest(committed=True, **TRANSACTION),
    }


@quick
def test_transactions_are_refused(own_broker: Embedded, own_peer: Peer) -> None:
    with own_peer as peer:
        answers = {word: peer.ask(request, 3) for word, request in transactional().items()}
        asked = FindCoordinatorRequest(key_type=1, coordinator_keys=["tx"])
        coordinator = peer.ask(asked, 4).coordinators[0]
        name = new_topic(peer, "plain")
        marked = with_field(batch(producer=(1, 0, 0)), "attributes", 0x10)
        assert peer.code(name, marked) == 87
        assert peer.offset_at(name, -1) == (0, 0)
    added = answers.pop("add").results_by_topic_v3_and_below[0].results_by_partition[0]
    committed = answers.pop("commit-offsets").topics[0].partitions[0]
    codes = {word: answer.error_code for word, answer in answers.items()}
    assert codes == dict.fromkeys(("begin", "offsets", "end"), NO_TRANSACTIONS)
    assert added.partition_error_code == committed.error_code == NO_TRANSACTIONS
    assert (coordinator.error_code, coordinator.error_message) == (
        NO_TRANSACTIONS,
        "this broker has no transactions",
    )
    assert is_logged_once(own_broker, "transactions")


def test_a_transactional_client_is_refused_at_once(own_broker: Embedded) -> None:
    with KafkaProducer(bootstrap_servers=own_broker.bootstrap, transactional_id="tx") as producer:
        with pytest.raises(TransactionalIdAuthorizationFailedError):
            producer.init_transactions()
        producer.close(timeout=1)


@quick
def test_groups_of_the_new_protocol_are_refused(own_broker: Embedded, own_peer: Peer) -> None:
    head = struct.pack(">hhih", 68, 1, 77, -1) + b"\0"
    with own_peer as peer:
        peer.send_bytes(struct.pack(">i", len(head) + 3) + head + b"\x02g\0")
        answer = peer.read_frame()
        assert struct.unpack_from(">ixih", answer) == (77, 0, 35)
        assert b"this broker has no KIP-848 groups" in answer
        keys = {row.api_key for row in peer.ask(ApiVersionsRequest(), 0).api_keys}
    assert not keys & {68, 69, 24, 25, 26, 28}  # clients that look first never ask
    assert is_logged_once(own_broker, "KIP-848 groups")


@quick
def test_no_fetch_session_is_granted(own_broker: Embedded, own_peer: Peer) -> None:
    with own_peer as peer:
        name = new_topic(peer, "session")
        assert peer.code(name, batch()) == 0
        asked = peer.ask(fetch_request(name, 0, session=(0, 0)), 12)
        assert (asked.error_code, asked.session_id) == (0, 0)  # none is granted, all is sent
        assert asked.responses[0].partitions[0].records
        assert peer.ask(fetch_request(name, 0, session=(5, 1)), 12).error_code == 70
    assert is_logged_once(own_broker, "fetch sessions")


@quick
def test_leader_epochs_but_the_first_are_refused(own_broker: Embedded, own_peer: Peer) -> None:
    with own_peer as peer:
        name = new_topic(peer, "epoch")
        assert peer.fetch(name, 0, epoch=0).error_code == 0
        assert peer.fetch(name, 0, epoch=1).error_code == 75
    assert is_logged_once(own_broker, "leader epoch but 0")


@quick
def test_replication_is_refused(own_broker: Embedded, own_peer: Peer) -> None:
    with own_peer as peer:
        assert peer.create(fresh("two"), replicas=2) == 38
        row = CreateTopicsRequest.CreatableTopic
        placed = row(
            name=fresh("placed"),
            num_partitions=-1,
            replication_factor=-1,
            assignments=[row.CreatableReplicaAssignment(partition_index=0, broker_ids=[1, 2])],
            configs=[],
        )
        request = CreateTopicsRequest(topics=[placed], timeout_ms=1000, validate_only=False)
        assert peer.ask(request, 7).topics[0].error_code == 39
        name = new_topic(peer, "grown")
        grown = CreatePartitionsRequest.CreatePartitionsTopic
        assigned = grown.CreatePartitionsAssignment(broker_ids=[2])
        more = CreatePartitionsRequest(
            topics=[grown(name=name, count=2, assignments=[assigned])],
            timeout_ms=1000,
            validate_only=False,
        )
        assert peer.ask(more, 3).results[0].error_code == 39
    assert is_logged_once(own_broker, "replication: there is one broker only")


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
@quick
def test_compaction_is_refused(own_broker: Embedded, own_peer: Peer, policy: str) -> None:
    with own_peer as peer:
        name = fresh("compact")
        row = CreateTopicsRequest.CreatableTopic
        asked = row(
            name=name,
            num_partitions=1,
            replication_factor=1,
            assignments=[],
            configs=[row.CreatableTopicConfig(name="cleanup.policy", value=policy)],
        )
        request = CreateTopicsRequest(topics=[asked], timeout_ms=1000, validate_only=False)
        answer = peer.ask(request, 7).topics[0]
        assert answer.error_code == 40
        assert answer.error_message.startswith("this broker has no compaction")
        assert described(peer, name).error_code == 3
        there = new_topic(peer, "later")
        assert alter(peer, there, cleanup_policy=policy) == 40
    assert is_logged_once(own_broker, "compaction")


@quick
def test_compacted_topics_need_keys_or_are_not_made(bootstrap: str, peer: Peer) -> None:
    name = fresh("keyed")
    made = peer.create(name, cleanup_policy="compact")
    if made == 40:  # the embedded broker
        assert described(peer, name).error_code == 3
        return
    assert made == 0
    eventually(lambda: peer.offset_at(name, -1)[0] == 0)
    assert peer.code(name, batch(key=None)) == 87
    assert peer.code(name, batch(key=b"")) == 0
