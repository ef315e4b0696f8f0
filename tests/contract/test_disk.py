"""The embedded broker and its folder: kills, torn writes, full disks, second brokers."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition

from tests.contract.conftest import Embedded, new_topic, quick
from tests.contract.raw import Peer, batch, eventually, fetch_request

SECONDS = 30.0


def logs(broker: Embedded) -> list[Path]:
    return sorted(path for path in broker.data.rglob("*.log"))


def test_nothing_acknowledged_is_lost_to_kills(embedded: Embedded) -> None:
    bootstrap = embedded.start()
    with Peer(bootstrap) as peer:
        name = new_topic(peer, "kill", partitions=2)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.contract.producing", bootstrap, name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as producing:  # fmt: skip
        try:
            assert producing.stdout is not None
            assert producing.stdout.readline() == "producing\n"
            for kill in range(4):
                eventually(lambda n=kill: total_records(bootstrap, name) > 300 * (n + 1))  # type: ignore[misc]
                if kill < 3:
                    embedded.restart(kill=True)
            said, _ = producing.communicate(timeout=SECONDS)
        finally:
            producing.kill()
    assert producing.returncode == 0
    lines = [line.split() for line in said.splitlines()]
    acknowledged = {(int(p), int(offset)): value.encode() for p, offset, value in lines}
    stored = read_all(bootstrap, name, 2)
    assert [value for value in stored.values() if value == b"first"] == [b"first"]
    assert {k: v for k, v in stored.items() if v != b"first"} == acknowledged  # none lost or twice
    assert len(acknowledged) > 100


def total_records(bootstrap: str, topic: str) -> int:
    """Records in both partitions."""
    with Peer(bootstrap) as peer:
        return sum(peer.offset_at(topic, -1, n)[1] for n in range(2))


def read_all(bootstrap: str, topic: str, partitions: int) -> dict[tuple[int, int], bytes]:
    """Everything in the topic, by partition and offset."""
    places = [TopicPartition(topic, n) for n in range(partitions)]
    with KafkaConsumer(bootstrap_servers=bootstrap, group_id=None) as client:
        client.assign(places)
        client.seek_to_beginning(*places)
        total = sum(client.end_offsets(places).values())
        got: dict[tuple[int, int], bytes] = {}
        until = time.monotonic() + SECONDS
        while len(got) < total:
            assert time.monotonic() < until
            for records in client.poll(200).values():
                got.update({(r.partition, r.offset): r.value for r in records})
    return got


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a broker that was killed, and its only topic, of six records."""
    broker = Embedded(tmp_path_factory.mktemp("killed") / "data")
    with Peer(broker.start()) as peer:
        name = new_topic(peer, "torn")
        for _ in range(3):
            assert peer.code(name, batch([b"x"] * 2)) == 0
    broker.stop(kill=True)
    return broker.data, name


@pytest.mark.parametrize(
    "torn",
    [b"", batch()[:40], batch([b"x" * 99])[:-1], b"\0" * 4096],
    ids=["nothing", "half-a-header", "all-but-a-byte", "zeros"],
)
def test_a_torn_tail_is_cut(embedded: Embedded, killed: tuple[Path, str], torn: bytes) -> None:
    name = killed[1]
    shutil.copytree(killed[0], embedded.data)
    (path,) = logs(embedded)
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(torn)
    with Peer(embedded.start()) as peer:
        assert path.stat().st_size == whole
        assert peer.offset_at(name, -1) == (0, 6)
        assert peer.produce(name, batch()).base_offset == 6


def test_a_bad_batch_at_the_end_is_cut_and_damage_before_is_refused(embedded: Embedded) -> None:
    with Peer(embedded.start()) as peer:
        name = new_topic(peer, "rot")
        for _ in range(4):
            assert peer.code(name, batch([b"x" * 300])) == 0
    assert embedded.stop(kill=True) != 0
    (path,) = logs(embedded)
    flip(path, path.stat().st_size - 5)
    with Peer(embedded.start()) as peer:
        assert peer.offset_at(name, -1) == (0, 3)
    assert embedded.stop() == 0  # now it is all flushed, and damage is no torn write
    os.truncate(path, path.stat().st_size - 5)
    assert "damaged" in embedded.refuses()


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0xFF]))


def test_sequences_ids_and_commits_survive_a_restart(embedded: Embedded) -> None:
    for kill in (False, True):
        with Peer(embedded.start()) as peer:
            name = new_topic(peer, "state")
            producer = peer.new_producer()
            for n in range(3):
                assert peer.code(name, batch(producer=(producer, 0, n))) == 0
        bootstrap = embedded.restart(kill)
        with Peer(bootstrap) as peer:
            repeated = peer.produce(name, batch(producer=(producer, 0, 1)))
            assert (repeated.error_code, repeated.base_offset) == (0, 1)
            assert peer.code(name, batch(producer=(producer, 0, 4))) == 45
            assert peer.new_producer() > producer
        embedded.stop()


def test_two_brokers_do_not_share_a_folder(embedded: Embedded) -> None:
    embedded.start()
    assert "another broker" in embedded.refuses()
    embedded.restart(kill=True)  # and the lock of a dead process blocks no other


def test_a_port_in_use_fails_the_start_with_a_sentence(embedded: Embedded) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = embedded.refuses(taken.getsockname()[1])
    assert "cannot listen" in said
    assert "in use" in said
    assert embedded.start()


def test_a_folder_that_cannot_be_written_fails_the_start_with_a_sentence(tmp_path: Path) -> None:
    # root may write where a mode forbids it, but no user makes folders in the kernel's
    parent = Path("/sys") if os.getuid() == 0 else tmp_path
    tmp_path.chmod(0o555)
    try:
        assert "cannot be written" in Embedded(parent / "data").refuses()
    finally:
        tmp_path.chmod(0o755)


def test_a_file_in_the_folders_place_fails_the_start_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert "cannot be used" in Embedded(tmp_path / "data").refuses()


@quick
def test_a_full_disk_acknowledges_nothing_and_tears_nothing(tmp_path: Path) -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    broker = Embedded(tmp_path / "data", preexec_fn=little_room)
    try:
        with Peer(broker.start()) as peer:
            name = new_topic(peer, "full")
            codes = [peer.code(name, batch([b"x" * 30_000])) for _ in range(10)]
            assert codes == [0] * 6 + [56] * 4
            assert peer.offset_at(name, -1) == (0, 6)
            assert peer.code(name, batch([b"small"])) == 0  # there is room for this one
            assert peer.offset_at(name, -1) == (0, 7)
        broker.popen = {}
        with Peer(broker.restart(kill=True)) as peer:
            assert peer.offset_at(name, -1) == (0, 7)
            assert peer.produce(name, batch([b"x" * 30_000])).base_offset == 7
    finally:
        broker.stop(kill=True)


def test_a_full_disk_fails_the_start_with_a_sentence(tmp_path: Path) -> None:
    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    assert "full" in Embedded(tmp_path / "data", preexec_fn=no_room).refuses()


def test_a_deleted_topic_leaves_nothing_behind(embedded: Embedded) -> None:
    from tests.contract.test_topics import delete

    with Peer(embedded.start()) as peer:
        name = new_topic(peer, "gone", partitions=3)
        assert len(logs(embedded)) == 3
        assert delete(peer, name) == 0
        assert not logs(embedded)
    (embedded.data / "topics" / "left-over").mkdir()  # as a kill in the middle would leave it
    embedded.restart(kill=True)
    assert list((embedded.data / "topics").iterdir()) == []


def test_sigterm_stops_the_broker_at_once_while_fetches_wait(embedded: Embedded) -> None:
    with Peer(embedded.start()) as peer, Peer(embedded.bootstrap) as stalled:
        name = new_topic(peer, "wait")
        assert peer.code(name, batch([b"x" * 1_000_000])) == 0
        for _ in range(20):
            stalled.send(fetch_request(name, 0), 12)  # and never reads what it gets

        def wait() -> None:
            with contextlib.suppress(OSError):
                peer.fetch(name, 1, wait=60_000)

        waiting = threading.Thread(target=wait)
        waiting.start()
        assert embedded.stop() == 0  # within START_SECONDS, or that raises
        waiting.join(5)
