"""ListGroups, DescribeGroups, DeleteGroups."""

from __future__ import annotations

from typing import Any

from kafka.protocol.admin import (
    DeleteGroupsResponse,
    DescribeGroupsResponse,
    ListGroupsResponse,
)

from infra.broker.codes import Code, Refused
from infra.broker.group import Group
from infra.broker.handlers.partitions import once
from infra.broker.node import Broker
from infra.broker.wire import Call

DESCRIBED = DescribeGroupsResponse.DescribedGroup


async def list_groups(broker: Broker, call: Call) -> Any:
    """All groups, or those in the requested states and of the requested types."""
    states = {state.lower() for state in call.request.states_filter or ()}
    types = {kind.lower() for kind in call.request.types_filter or ()}
    row = ListGroupsResponse.ListedGroup
    return ListGroupsResponse(
        throttle_time_ms=0,
        error_code=0,
        groups=[
            row(
                group_id=group.name,
                protocol_type=group.protocol_type,
                group_state=group.state.value,
                group_type="classic",
            )
            for group in broker.groups.all()
            if (not states or group.state.lower() in states) and (not types or "classic" in types)
        ],
    )


async def describe(broker: Broker, call: Call) -> Any:
    """State and members; an unknown group is Dead, and an error from version 6 on."""
    return DescribeGroupsResponse(
        throttle_time_ms=0,
        groups=[
            _described(name, broker.groups.get(name), call.version)
            for name in once(call.request.groups, str)
        ],
    )


def _described(name: str, group: Group | None, version: int) -> Any:
    if group is None:
        missing = version >= 6
        return DESCRIBED(
            error_code=Code.GROUP_ID_NOT_FOUND if missing else Code.NONE,
            error_message="no such group" if missing else None,
            group_id=name,
            group_state="Dead",
            protocol_type="",
            protocol_data="",
            members=[],
        )
    return DESCRIBED(
        error_code=0,
        error_message=None,
        group_id=name,
        group_state=group.state.value,
        protocol_type=group.protocol_type,
        protocol_data=group.protocol or "",
        members=[
            DESCRIBED.DescribedGroupMember(
                member_id=member.id,
                group_instance_id=member.instance,
                client_id=member.client,
                client_host=member.host,
                member_metadata=member.protocols.get(group.protocol or "", b""),
                member_assignment=member.assignment,
            )
            for member in group.members.values()
        ],
    )


async def delete(broker: Broker, call: Call) -> Any:
    """Deletes groups without members."""
    rows = []
    for name in call.request.groups_names:
        error = Code.NONE
        try:
            broker.groups.delete(name)
        except Refused as refused:
            error = refused.code
        except OSError:
            error = Code.COORDINATOR_NOT_AVAILABLE
        rows.append(DeleteGroupsResponse.DeletableGroupResult(group_id=name, error_code=error))
    return DeleteGroupsResponse(throttle_time_ms=0, results=rows)
