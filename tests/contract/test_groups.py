"""The classic group protocol, by hand: who may join, sync, beat, commit and leave, and when."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kafka.protocol.admin import DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest
from kafka.protocol.consumer import (
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    OffsetCommitRequest,
    OffsetFetchRequest,
    SyncGroupRequest,
)

from tests.contract.conftest import quick
from tests.contract.raw import Peer, eventually, fresh

SESSION = 6000  # ms, the least that Kafka takes
SECONDS = 10.0


@dataclass
class Member:
    """One member on a connection of its own."""

    peer: Peer
    group: str
    id: str = ""
    generation: int = -1
    instance: str | None = None

    def join(
        self,
        session: int = SESSION,
        protocols: tuple[str, ...] = ("range",),
        kind: str = "consumer",
    ) -> Any:
        answer = self.peer.ask(self._joining(session, protocols, kind), 7)
        if answer.error_code in (0, 79):
            self.id = answer.member_id
        if answer.error_code == 0:
            self.generation = answer.generation_id
        return answer

    def send_join(self) -> None:
        """Asks to be let in and does not wait for the answer."""
        self.peer.send(self._joining(SESSION, ("range",), "consumer"), 7)

    def _joining(self, session: int, protocols: tuple[str, ...], kind: str) -> Any:
        row = JoinGroupRequest.JoinGroupRequestProtocol
        return JoinGroupRequest(
            group_id=self.group,
            session_timeout_ms=session,
            rebalance_timeout_ms=SESSION,
            member_id=self.id,
            group_instance_id=self.instance,
            protocol_type=kind,
            protocols=[row(name=name, metadata=b"meta") for name in protocols],
            reason=None,
        )

    def enter(self) -> Any:
        """Joins for the first time: asks for an id, then comes with it."""
        assert self.join().error_code == 79
        answer = self.join()
        assert answer.error_code == 0
        return answer

    def sync(self, assignments: dict[str, bytes] | None = None) -> Any:
        row = SyncGroupRequest.SyncGroupRequestAssignment
        request = SyncGroupRequest(
            group_id=self.group,
            generation_id=self.generation,
            member_id=self.id,
            group_instance_id=self.instance,
            protocol_type="consumer",
            protocol_name="range",
            assignments=[row(member_id=m, assignment=a) for m, a in (assignments or {}).items()],
        )
        return self.peer.ask(request, 5)

    def beat(self) -> int:
        request = HeartbeatRequest(
            group_id=self.group,
            generation_id=self.generation,
            member_id=self.id,
            group_instance_id=self.instance,
        )
        code: int = self.peer.ask(request, 4).error_code
        return code

    def leave(self) -> tuple[int, int]:
        row = LeaveGroupRequest.MemberIdentity
        identity = row(member_id=self.id, group_instance_id=self.instance, reason=None)
        request = LeaveGroupRequest(group_id=self.group, members=[identity])
        answer = self.peer.ask(request, 4)
        return answer.error_code, answer.members[0].error_code

    def commit(self, topic: str, offset: int = 5, partition: int = 0, metadata: str = "") -> int:
        row = OffsetCommitRequest.OffsetCommitRequestTopic
        partition = row.OffsetCommitRequestPartition(
            partition_index=partition,
            committed_offset=offset,
            committed_leader_epoch=-1,
            committed_metadata=metadata,
        )
        request = OffsetCommitRequest(
            group_id=self.group,
            generation_id_or_member_epoch=self.generation,
            member_id=self.id,
            group_instance_id=self.instance,
            topics=[row(name=topic, partitions=[partition])],
        )
        code: int = self.peer.ask(request, 8).topics[0].partitions[0].error_code
        return code

    def committed(self, topic: str) -> int:
        row = OffsetFetchRequest.OffsetFetchRequestTopic
        request = OffsetFetchRequest(
            group_id=self.group,
            topics=[row(name=topic, partition_indexes=[0])],
            require_stable=False,
        )
        offset: int = self.peer.ask(request, 7).topics[0].partitions[0].committed_offset
        return offset


@pytest.fixture
def second(bootstrap: str) -> Iterator[Peer]:
    with Peer(bootstrap) as connection:
        yield connection


def stable(member: Member) -> Member:
    """The member alone in its group, with an assignment."""
    answer = member.enter()
    assert answer.leader == member.id
    assert [m.member_id for m in answer.members] == [member.id]
    assert member.sync({member.id: b"all"}).assignment == b"all"
    return member


@quick
def test_a_member_joins_syncs_sends_heartbeats_and_leaves(peer: Peer, group: str) -> None:
    member = Member(peer, group)
    answer = member.enter()
    assert (answer.protocol_type, answer.protocol_name) == ("consumer", "range")
    assert member.beat() == 0
    assert member.sync({member.id: b"mine"}).assignment == b"mine"
    assert member.sync().assignment == b"mine"
    assert member.beat() == 0
    assert Member(peer, group, "nobody", member.generation).beat() == 25
    assert Member(peer, group, member.id, member.generation + 1).beat() == 22
    assert Member(peer, group, "nobody").leave() == (0, 25)
    assert member.leave() == (0, 0)
    assert member.beat() == 25


@quick
def test_invalid_joins_are_refused(peer: Peer, group: str) -> None:
    assert Member(peer, "").join().error_code == 24
    assert Member(peer, group).join(session=1000).error_code == 26
    assert Member(peer, group).join(session=3_600_000).error_code == 26
    assert Member(peer, group).join(protocols=()).error_code == 23
    assert Member(peer, group, "nobody").join().error_code == 25
    stable(Member(peer, group))
    assert Member(peer, group).join(protocols=("other",)).error_code == 23
    assert Member(peer, group).join(kind="connect").error_code == 23


@quick
def test_two_members_share_the_partitions_and_rebalance(
    peer: Peer, second: Peer, group: str
) -> None:
    first, other = stable(Member(peer, group)), Member(second, group)
    assert other.join().error_code == 79
    joining = threading.Thread(target=other.join)
    joining.start()
    eventually(lambda: first.beat() == 27)
    assert first.sync().error_code == 27
    answer = first.join()
    joining.join(SECONDS)
    assert {m.member_id for m in answer.members} == {first.id, other.id}
    assert other.generation == first.generation == answer.generation_id
    syncing = threading.Thread(target=lambda: shares.append(other.sync().assignment))
    shares: list[bytes] = []
    syncing.start()
    assert first.sync({first.id: b"a", other.id: b"b"}).assignment == b"a"
    syncing.join(SECONDS)
    assert shares == [b"b"]
    assert first.leave() == (0, 0)
    eventually(lambda: other.beat() == 27)
    assert other.join().leader == other.id


def test_silent_members_are_removed_after_their_session_timeout(
    bootstrap: str, peer: Peer, group: str, topic: str
) -> None:
    silent = stable(Member(peer, fresh("silent")))
    began = time.monotonic()
    member = stable(Member(peer, group))
    with Peer(bootstrap) as gone:  # killed while it waits to be let in
        other = Member(gone, group)
        assert other.join().error_code == 79
        other.send_join()
        eventually(lambda: member.beat() == 27)
    assert {m.member_id for m in member.join().members} == {member.id, other.id}
    assert member.sync({member.id: b"half"}).assignment == b"half"
    assert Member(peer, group, other.id, member.generation).commit(topic) == 0  # a zombie, in time
    eventually(lambda: member.beat() == 27)
    assert time.monotonic() - began > 0.9 * SESSION / 1000
    assert [m.member_id for m in member.join().members] == [member.id]
    assert Member(peer, group, other.id, member.generation).beat() == 25
    eventually(lambda: bool(described(peer, silent.group).group_state == "Empty"))
    assert silent.beat() == 25
    assert silent.commit(topic) == 25


@quick
def test_a_static_member_takes_over_at_once(peer: Peer, second: Peer, group: str) -> None:
    first = Member(peer, group, instance="one")
    assert first.join().error_code == 0
    assert first.sync({first.id: b"mine"}).assignment == b"mine"
    other = Member(second, group, instance="one")
    answer = other.join()
    assert (answer.error_code, answer.generation_id) == (0, first.generation)
    assert other.id != first.id
    assert first.beat() == 82
    assert other.sync().assignment == b"mine"
    assert other.beat() == 0


@quick
def test_only_members_of_the_current_generation_commit(
    peer: Peer, second: Peer, group: str, topic: str
) -> None:
    simple = Member(peer, group)
    assert simple.commit(topic, 3) == 0  # no group needed
    assert simple.committed(topic) == 3
    assert Member(peer, fresh("none"), "x", 4).commit(topic) == 22
    member = Member(second, group)
    member.enter()
    assert member.commit(topic) == 27  # before it knows its share
    member.sync({member.id: b""})
    assert member.commit(topic, 7) == 0
    assert Member(peer, group).commit(topic) == 25  # an outsider
    assert Member(peer, group, member.id, member.generation + 1).commit(topic) == 22
    assert Member(peer, group, "nobody", member.generation).commit(topic) == 25
    assert member.committed(topic) == 7


@quick
def test_commits_on_unknown_topics_or_with_too_much_metadata_are_refused(
    peer: Peer, group: str, topic: str
) -> None:
    simple = Member(peer, group)
    assert simple.committed(topic) == -1
    assert simple.commit("no-such-topic") == 3
    assert simple.commit(topic, partition=7) == 3
    assert simple.commit(topic, metadata="x" * 5000) == 12
    assert simple.committed(topic) == -1
    assert simple.commit(topic, 9, metadata="x" * 4096) == 0
    assert simple.committed(topic) == 9


def described(peer: Peer, group: str) -> Any:
    request = DescribeGroupsRequest(groups=[group], include_authorized_operations=False)
    return peer.ask(request, 6).groups[0]


def removed(peer: Peer, group: str) -> int:
    request = DeleteGroupsRequest(groups_names=[group])
    code: int = peer.ask(request, 2).results[0].error_code
    return code


@quick
def test_groups_are_listed_described_and_deleted(peer: Peer, group: str, topic: str) -> None:
    missing = described(peer, fresh("none"))
    assert (missing.error_code, missing.group_state) == (69, "Dead")
    assert removed(peer, fresh("none")) == 69
    member = stable(Member(peer, group))
    assert member.commit(topic) == 0
    there = described(peer, group)
    assert (there.error_code, there.group_state, there.protocol_data) == (0, "Stable", "range")
    assert [m.member_id for m in there.members] == [member.id]
    assert there.members[0].member_assignment == b"all"
    listed = peer.ask(ListGroupsRequest(states_filter=["Stable"], types_filter=[]), 5).groups
    assert group in [row.group_id for row in listed]
    assert removed(peer, group) == 68
    member.leave()
    assert described(peer, group).group_state == "Empty"
    assert removed(peer, group) == 0
    assert Member(peer, group).committed(topic) == -1
