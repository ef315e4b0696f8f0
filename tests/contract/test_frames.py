"""What is no request closes the connection, and does nothing else."""

from __future__ import annotations

import struct

import pytest
from kafka.protocol.metadata import ApiVersionsRequest, MetadataRequest

from tests.contract.conftest import quick
from tests.contract.raw import Peer, fresh


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        struct.pack(">i", 200 << 20),
        struct.pack(">i", -1),
        struct.pack(">i", 2**31 - 1) + b"x" * 100,
        struct.pack(">ihhih", 10, 999, 0, 1, -1),  # unknown API
        struct.pack(">ihhih", 10, 3, 999, 1, -1),  # unsupported version
        struct.pack(">ihhih", 14, 3, 1, 1, -1) + struct.pack(">i", 5),  # five topics, none there
    ],
    ids=["http", "200MB", "negative", "huge", "unknown-api", "unknown-version", "cut"],
)
@quick
def test_garbage_is_hung_up_on(peer: Peer, data: bytes) -> None:
    peer.send_bytes(data)
    assert peer.closed()


@quick
def test_unknown_version_of_api_versions_is_told_what_there_is(peer: Peer) -> None:
    # librdkafka and Java clients begin with the newest version they know
    peer.send_bytes(struct.pack(">ihhihb", 11, 18, 99, 7, -1, 0))
    correlation, error, number = struct.unpack_from(">ihi", peer.read_frame())
    assert (correlation, error) == (7, 35)
    assert number >= 1
    assert peer.ask(ApiVersionsRequest(), 0).error_code == 0  # and the connection lives


def test_a_hang_up_in_the_middle_of_a_frame_harms_nobody(bootstrap: str) -> None:
    for cut in (2, 4, 30):
        with Peer(bootstrap) as gone:
            gone.send_bytes((struct.pack(">i", 1000) + b"x" * 500)[:cut])
    with Peer(bootstrap) as peer:
        name = fresh("none")
        request = MetadataRequest(
            topics=[MetadataRequest.MetadataRequestTopic(name=name)],
            allow_auto_topic_creation=False,
        )
        assert peer.ask(request, 5).topics[0].error_code == 3
