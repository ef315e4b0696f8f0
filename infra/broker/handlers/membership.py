"""JoinGroup, SyncGroup, Heartbeat, LeaveGroup: the classic group protocol."""

from __future__ import annotations

from typing import Any

from kafka.protocol.consumer import (
    HeartbeatResponse,
    JoinGroupResponse,
    LeaveGroupResponse,
    SyncGroupResponse,
)

from infra.broker.codes import Code, Refused
from infra.broker.groups import MAX_SESSION_MS, MIN_SESSION_MS
from infra.broker.members import Member, Membership
from infra.broker.node import Broker
from infra.broker.wire import Call

LEAVE_ROW = LeaveGroupResponse.MemberResponse


async def join(broker: Broker, call: Call) -> Any:
    """Waits for the next generation, which begins when all members have joined."""
    request, member_id = call.request, call.request.member_id
    try:
        joined, protocol_type = await _join(broker, call)
    except MemberIdRequired as required:
        error, member_id = Code.MEMBER_ID_REQUIRED, required.member_id
    except Refused as refused:
        error = refused.code
    else:
        return _joined(joined, protocol_type)
    return JoinGroupResponse(
        throttle_time_ms=0,
        error_code=error,
        generation_id=-1,
        protocol_type=request.protocol_type or None,
        protocol_name=None if call.version >= 7 else "",
        leader="",
        skip_assignment=False,
        member_id=member_id,
        members=[],
    )


class MemberIdRequired(Exception):
    """A client must repeat its first join with `member_id`."""

    def __init__(self, member_id: str) -> None:
        super().__init__()
        self.member_id = member_id


async def _join(broker: Broker, call: Call) -> tuple[Membership, str]:
    request, session_ms = call.request, call.request.session_timeout_ms
    new = not request.member_id
    if request.group_id and not MIN_SESSION_MS <= session_ms <= MAX_SESSION_MS:
        raise Refused(Code.INVALID_SESSION_TIMEOUT, "session timeout out of range")
    group = broker.groups.to_join(request.group_id, may_create=new)
    rebalance_ms = request.rebalance_timeout_ms if call.version >= 1 else session_ms
    member = Member(
        id=request.member_id,
        instance=request.group_instance_id,
        client=call.client,
        host=call.host,
        session_seconds=session_ms / 1000,
        rebalance_seconds=max(rebalance_ms, 0) / 1000,
        protocols={row.name: bytes(row.metadata) for row in request.protocols},
    )
    if new and member.instance is None and call.version >= 4:
        group.check_protocols(member, request.protocol_type)
        raise MemberIdRequired(group.new_id(call.client, member.session_seconds))
    return await group.admit(member, request.protocol_type), group.protocol_type


def _joined(joined: Membership, protocol_type: str) -> Any:
    row = JoinGroupResponse.JoinGroupResponseMember
    return JoinGroupResponse(
        throttle_time_ms=0,
        error_code=0,
        generation_id=joined.generation,
        protocol_type=protocol_type,
        protocol_name=joined.protocol,
        leader=joined.leader,
        skip_assignment=False,
        member_id=joined.member_id,
        members=[
            row(
                member_id=member.id,
                group_instance_id=member.instance,
                metadata=member.protocols[joined.protocol],
            )
            for member in joined.members
        ],
    )


async def sync(broker: Broker, call: Call) -> Any:
    """Waits for the leader's assignment."""
    request, error, assignment = call.request, Code.NONE, b""
    protocol_type, protocol = request.protocol_type, request.protocol_name
    try:
        group = broker.groups.existing(request.group_id)
        member = group.member(request.member_id, request.group_instance_id)
        if (protocol_type or group.protocol_type) != group.protocol_type or (
            protocol or group.protocol
        ) != group.protocol:
            raise Refused(Code.INCONSISTENT_GROUP_PROTOCOL, "not the group's protocol")
        protocol_type, protocol = group.protocol_type, group.protocol
        assignments = {row.member_id: bytes(row.assignment) for row in request.assignments}
        assignment = await group.sync(member, request.generation_id, assignments)
    except Refused as refused:
        error = refused.code
    return SyncGroupResponse(
        throttle_time_ms=0,
        error_code=error,
        protocol_type=protocol_type,
        protocol_name=protocol,
        assignment=assignment,
    )


async def heartbeat(broker: Broker, call: Call) -> Any:
    """Prolongs a member's session."""
    request, error = call.request, Code.NONE
    try:
        group = broker.groups.existing(request.group_id)
        group.heartbeat(
            group.member(request.member_id, request.group_instance_id), request.generation_id
        )
    except Refused as refused:
        error = refused.code
    return HeartbeatResponse(throttle_time_ms=0, error_code=error)


async def leave(broker: Broker, call: Call) -> Any:
    """Removes members; from version 3 on each has an error code of its own."""
    request = call.request
    if call.version < 3:
        return LeaveGroupResponse(
            throttle_time_ms=0, error_code=_leave(broker, request.group_id, request.member_id, None)
        )
    return LeaveGroupResponse(
        throttle_time_ms=0,
        error_code=0,
        members=[
            LEAVE_ROW(
                member_id=row.member_id,
                group_instance_id=row.group_instance_id,
                error_code=_leave(broker, request.group_id, row.member_id, row.group_instance_id),
            )
            for row in request.members
        ],
    )


def _leave(broker: Broker, group: str, member: str, instance: str | None) -> Code:
    try:
        broker.groups.existing(group).leave(member, instance)
    except Refused as refused:
        return refused.code
    return Code.NONE
