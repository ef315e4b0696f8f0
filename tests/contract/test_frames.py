"""What is no request closes the connection, and does nothing else."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import pytest
from kafka.protocol.metadata import ApiVersionsRequest, MetadataRequest

from tests.contract.conftest import Embedded, quick
from tests.contract.raw import Peer, batch, eventually, fetch_request, produce_request


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
def test_garbage_closes_the_connection(peer: Peer, data: bytes) -> None:
    peer.send_bytes(data)
    assert peer.closed()


@quick
def test_an_unknown_version_of_api_versions_is_answered_with_what_there_is(peer: Peer) -> None:
    # librdkafka and Java clients begin with the newest version they know
    peer.send_bytes(struct.pack(">ihhihb", 11, 18, 99, 7, -1, 0))
    correlation, error, number = struct.unpack_from(">ihi", peer.read_frame())
    assert (correlation, error) == (7, 35)
    assert number >= 1
    assert peer.ask(ApiVersionsRequest(), 0).error_code == 0  # and the connection lives


def test_clients_are_sent_where_the_broker_is_advertised(tmp_path: Path) -> None:
    broker = Embedded(tmp_path / "data", "--advertised", "[::1]:1234")
    try:
        with Peer(broker.start()) as peer:
            (node,) = peer.ask(MetadataRequest(topics=[]), 12).brokers
            assert (node.host, node.port) == ("::1", 1234)
    finally:
        broker.stop(kill=True)


def frame(request: Any, version: int = 9) -> bytes:
    """A request as it goes over the wire."""
    request.API_VERSION = version
    request.with_header(1, "suite")
    return bytes(request.encode(header=True, framed=True))


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@quick
def test_a_peer_that_disconnects_in_the_middle_of_a_request_harms_no_other(
    bootstrap: str, peer: Peer, topic: str, reset: bool
) -> None:
    whole = frame(produce_request(topic, batch([b"x" * 1000])))
    for cut in (2, 4, 30, len(whole) - 1):
        with Peer(bootstrap) as gone:
            gone.send_bytes(whole[:cut])
            gone.leave(reset)
    assert peer.offset_at(topic, -1) == (0, 0)  # no part of it counts
    with Peer(bootstrap) as gone:
        gone.send(fetch_request(topic, 0, wait=5000), 12)
        gone.leave(reset)
    assert peer.produce(topic, batch()).base_offset == 0
    assert peer.fetch(topic, 0).records


@quick
def test_a_request_whose_sender_is_gone_counts_whole(bootstrap: str, topic: str) -> None:
    with Peer(bootstrap) as gone:
        gone.send(produce_request(topic, batch([b"x"] * 3)), 9)
    with Peer(bootstrap) as peer:
        eventually(lambda: peer.offset_at(topic, -1) == (0, 3))


@quick
def test_half_a_frame_blocks_only_its_own_connection(
    bootstrap: str, peer: Peer, topic: str
) -> None:
    whole = frame(produce_request(topic, batch([b"x" * 1000])))
    with contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(Peer(bootstrap)) for _ in range(50)]
        for n, half in enumerate(stalled):
            half.send_bytes(whole[: 1 + n * (len(whole) - 2) // 49])
        for n in range(3):
            assert peer.produce(topic, batch()).base_offset == n
            assert len(peer.fetch(topic, n).records) == len(batch())
        for n, half in enumerate(stalled):
            half.send_bytes(whole[1 + n * (len(whole) - 2) // 49 :])
            assert half.read_frame()
    assert peer.offset_at(topic, -1) == (0, 53)


@quick
def test_a_request_may_come_byte_by_byte(peer: Peer, topic: str) -> None:
    for byte in frame(produce_request(topic, batch())):
        peer.send_bytes(bytes([byte]))
    assert peer.read_frame()
    assert peer.offset_at(topic, -1) == (0, 1)


@quick
def test_a_peer_that_does_not_read_blocks_no_other(bootstrap: str, peer: Peer, topic: str) -> None:
    assert peer.code(topic, batch([b"x" * 1_000_000])) == 0
    with Peer(bootstrap) as deaf:
        for _ in range(30):
            deaf.send(fetch_request(topic, 0), 12)
        for n in range(1, 4):
            assert peer.produce(topic, batch()).base_offset == n
            assert peer.fetch(topic, n).records


@pytest.mark.parametrize("version", [9, 12], ids=["decoded", "packed"])
def test_a_peer_that_asks_and_never_reads_is_read_no_further(
    embedded: Embedded, version: int
) -> None:
    bootstrap = embedded.start()
    with Peer(bootstrap) as peer, Peer(bootstrap) as deaf:
        assert peer.create("deaf") == 0
        assert peer.code("deaf", batch([b"x" * 1_000_000])) == 0
        asked = frame(fetch_request("deaf", 0), version) * 1000
        sent = flood(deaf, asked, 64 << 20)
        assert sent < 64 << 20  # the socket's buffers and the broker's took the rest
        assert peer.produce("deaf", batch()).base_offset == 1
        answer = deaf.read_frame()  # and it is read again as soon as the peer reads
        for _ in range(20):
            assert len(deaf.read_frame()) >= len(answer)


def flood(peer: Peer, data: bytes, most: int) -> int:
    """Sends `data` again and again until no more is taken; answers how many bytes were."""
    sent = 0
    while sent < most and (taken := peer.send_some(data)):
        sent += taken
    return sent
