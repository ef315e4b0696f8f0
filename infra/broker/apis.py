"""Every API that the broker speaks: its key's codec, its versions, its handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, NamedTuple

from kafka.protocol.admin import (
    AlterConfigsRequest,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteGroupsRequest,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    DescribeClusterRequest,
    DescribeConfigsRequest,
    DescribeGroupsRequest,
    DescribeLogDirsRequest,
    IncrementalAlterConfigsRequest,
    ListGroupsRequest,
)
from kafka.protocol.consumer import (
    FetchRequest,
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    ListOffsetsRequest,
    OffsetCommitRequest,
    OffsetFetchRequest,
    OffsetForLeaderEpochRequest,
    SyncGroupRequest,
)
from kafka.protocol.metadata import (
    ApiVersionsRequest,
    ApiVersionsResponse,
    FindCoordinatorRequest,
    MetadataRequest,
)
from kafka.protocol.producer import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    ProduceRequest,
    TxnOffsetCommitRequest,
)

from infra.broker.codes import Code
from infra.broker.handlers import (
    cluster,
    commits,
    configs,
    fetch,
    groups,
    membership,
    missing,
    offsets,
    packed_fetch,
    packed_produce,
    produce,
    topics,
)
from infra.broker.node import Broker
from infra.broker.wire import Call, RequestHeader

Handler = Callable[[Broker, Call], Awaitable[Any]]  # the response, or None where none is sent


class Api(NamedTuple):
    """One API. The broker answers its versions from `min_version` to `max_version`, both included."""

    codec: Any
    min_version: int
    max_version: int
    handle: Handler
    listed: bool = True  # in the answer to ApiVersions


async def api_versions(_: Broker, call: Call) -> Any:
    """The APIs of this table."""
    return versions(Code.NONE)


def versions(error: Code) -> Any:
    """The ApiVersions response."""
    key = ApiVersionsResponse.ApiVersion
    return ApiVersionsResponse(
        error_code=error,
        throttle_time_ms=0,
        api_keys=[
            # librdkafka drops a broker that does not claim Produce v0, though no client sends v0
            key(
                api_key=n, min_version=0 if n == 0 else api.min_version, max_version=api.max_version
            )
            for n, api in APIS.items()
            if api.listed
        ],
    )


_TABLE: Final = (
    Api(ProduceRequest, 3, 13, produce.produce),
    Api(FetchRequest, 4, 16, fetch.fetch),
    Api(ListOffsetsRequest, 1, 8, offsets.list_offsets),
    Api(MetadataRequest, 0, 13, cluster.metadata),
    Api(OffsetCommitRequest, 2, 9, commits.commit),
    Api(OffsetFetchRequest, 1, 9, commits.fetch),
    Api(FindCoordinatorRequest, 0, 4, cluster.find_coordinator),
    Api(JoinGroupRequest, 0, 9, membership.join),
    Api(HeartbeatRequest, 0, 4, membership.heartbeat),
    Api(LeaveGroupRequest, 0, 5, membership.leave),
    Api(SyncGroupRequest, 0, 5, membership.sync),
    Api(DescribeGroupsRequest, 0, 6, groups.describe),
    Api(ListGroupsRequest, 0, 5, groups.list_groups),
    Api(ApiVersionsRequest, 0, 4, api_versions),
    Api(CreateTopicsRequest, 2, 7, topics.create),
    Api(DeleteTopicsRequest, 1, 6, topics.delete),
    Api(DeleteRecordsRequest, 0, 2, offsets.delete_records),
    Api(InitProducerIdRequest, 0, 4, produce.init_producer),
    Api(OffsetForLeaderEpochRequest, 2, 4, offsets.for_leader_epoch),
    Api(DescribeConfigsRequest, 1, 4, configs.describe),
    Api(AlterConfigsRequest, 0, 2, configs.alter),
    Api(DescribeLogDirsRequest, 1, 4, cluster.log_dirs),
    Api(CreatePartitionsRequest, 0, 3, topics.grow),
    Api(DeleteGroupsRequest, 0, 2, groups.delete),
    Api(IncrementalAlterConfigsRequest, 0, 1, configs.alter_some),
    Api(DescribeClusterRequest, 0, 1, cluster.describe),
    Api(AddPartitionsToTxnRequest, 0, 3, missing.add_partitions, listed=False),
    Api(AddOffsetsToTxnRequest, 0, 4, missing.add_offsets, listed=False),
    Api(EndTxnRequest, 0, 4, missing.end_transaction, listed=False),
    Api(TxnOffsetCommitRequest, 0, 4, missing.commit_offsets, listed=False),
)
APIS: Final[dict[int, Api]] = {api.codec.API_KEY: api for api in _TABLE}

Packed = Callable[[Broker, bytes, RequestHeader], bytes | Coroutine[Any, Any, bytes]]
"""The framed answer to a request's bytes, or what waits for it."""
PACKED: Final[dict[tuple[int, int], Packed]] = {
    (ProduceRequest.API_KEY, packed_produce.VERSION): packed_produce.produce,
    (FetchRequest.API_KEY, packed_fetch.VERSION): packed_fetch.fetch,
}
"""The requests that are not decoded to objects, by key and version: those that our own clients send often."""
