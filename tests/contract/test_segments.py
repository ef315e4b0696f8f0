"""A log's files: what a kill in the middle of a deletion leaves, and which damage is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.conftest import Embedded, new_topic, quick
from tests.contract.raw import HEADER, Peer, eventually, now
from tests.contract.test_disk import flip, logs
from tests.contract.test_retention import DAY, SEGMENT, fill, first


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a broker that was killed, and its only topic."""
    broker = Embedded(tmp_path_factory.mktemp("killed") / "data")
    with Peer(broker.start()) as peer:
        name = new_topic(peer, "row", segment_bytes=SEGMENT)
        fill(peer, name, *[now()] * 7)
    broker.stop(kill=True)
    return broker.data, name


@pytest.fixture
def row(embedded: Embedded, killed: tuple[Path, str]) -> str:
    """A topic of four segments, from offsets 0, 4, 8 and 12 to 14, in the broker's folder."""
    shutil.copytree(killed[0], embedded.data)
    assert bases(embedded) == [0, 4, 8, 12]
    return killed[1]


def bases(broker: Embedded) -> list[int]:
    """Where the segments of the only log begin."""
    return [int(path.stem.partition("-")[2]) for path in logs(broker)]


def offsets(peer: Peer, topic: str) -> list[int]:
    """First offset of every batch, read from the start of the log to its end."""
    code, at = first(peer, topic), []
    while records := peer.fetch(topic, code, max_bytes=1).records:
        header = HEADER.unpack_from(records)
        at.append(header[0])
        code = header[0] + header[6] + 1
    return at


@quick
def test_a_deletion_cut_short_is_finished_on_start(embedded: Embedded, row: str) -> None:
    folder = logs(embedded)[0].parent
    (folder / "0.start.tmp").write_text("1")  # a kill while the start was written ...
    with Peer(embedded.start()) as peer:
        assert offsets(peer, row) == [0, 2, 4, 6, 8, 10, 12]
    embedded.stop(kill=True)
    (folder / "0.start").write_text("8")  # ... and one before the files below it went
    with Peer(embedded.start()) as peer:
        assert bases(embedded) == [8, 12]
        assert offsets(peer, row) == [8, 10, 12]
        fill(peer, row, now())
        assert peer.offset_at(row, -1) == (0, 16)


def test_a_kill_after_a_segment_was_begun_costs_nothing(embedded: Embedded, row: str) -> None:
    last = logs(embedded)[-1]
    last.with_name("0-00000000000000000014.log").touch()
    with Peer(embedded.start()) as peer:
        assert offsets(peer, row) == [0, 2, 4, 6, 8, 10, 12]
        fill(peer, row, now())
    embedded.stop(kill=True)
    assert bases(embedded) == [0, 4, 8, 12, 14]
    with Peer(embedded.start()) as peer:
        assert offsets(peer, row) == [0, 2, 4, 6, 8, 10, 12, 14]


def unlink_all(paths: list[Path]) -> None:
    for path in paths:
        path.unlink()


DAMAGE: dict[str, tuple[Callable[[list[Path]], object], str]] = {
    "first-missing": (lambda paths: paths[0].unlink(), "lacks the records from offset 0 on"),
    "middle-missing": (lambda paths: paths[1].unlink(), "does not begin at offset 4"),
    "all-missing": (unlink_all, "lacks the files of partition 0"),
    "cut": (lambda paths: paths[1].write_bytes(paths[1].read_bytes()[:-5]), "is damaged"),
    "header": (lambda paths: flip(paths[2], 16), "is damaged"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_damage_before_the_end_of_a_log_is_refused(
    embedded: Embedded, row: str, damage: Callable[[list[Path]], object], reason: str
) -> None:
    damage(logs(embedded))
    assert reason in embedded.refuses()


def test_a_log_of_one_file_of_an_older_version_is_read(embedded: Embedded, row: str) -> None:
    paths = logs(embedded)
    unlink_all(paths[1:])
    paths[0].rename(paths[0].with_name("0.log"))
    with Peer(embedded.start()) as peer:
        assert offsets(peer, row) == [0, 2]
        fill(peer, row, now())
    embedded.restart(kill=True)
    assert bases(embedded) == [0, 4]


@quick
def test_expired_records_are_deleted_on_start_and_the_start_survives_kills(
    embedded: Embedded,
) -> None:
    with Peer(embedded.start()) as peer:  # looks every five minutes, and when it starts
        name = new_topic(peer, "boot", segment_bytes=SEGMENT, retention_ms=str(DAY))
        old = now() - 2 * DAY
        fill(peer, name, old, old, old, now(), now())
        assert first(peer, name) == 0
    for _ in range(2):
        with Peer(embedded.restart(kill=True)) as peer:
            assert first(peer, name) == 4
            assert peer.fetch(name, 3).error_code == 1
            assert offsets(peer, name) == [4, 6, 8]
    assert bases(embedded) == [4, 8]


def test_a_log_whose_records_all_expired_keeps_counting_offsets(embedded: Embedded) -> None:
    with Peer(embedded.start()) as peer:
        name = new_topic(peer, "empty", retention_ms=str(DAY))
        fill(peer, name, now() - 2 * DAY)
    for _ in range(2):
        with Peer(embedded.restart(kill=True)) as peer:
            assert (first(peer, name), peer.offset_at(name, -1)) == (2, (0, 2))
            assert (offsets(peer, name), bases(embedded)) == ([], [2])
    with Peer(embedded.bootstrap) as peer:
        fill(peer, name, now())
        assert offsets(peer, name) == [2]


def test_kills_while_segments_expire_lose_no_retained_record(tmp_path: Path) -> None:
    broker = Embedded(tmp_path / "data", "--retention-check-seconds", "0.01")
    try:
        with Peer(broker.start()) as peer:
            name = new_topic(
                peer, "churn", segment_bytes=SEGMENT, retention_bytes=str(3 << 20),
                retention_ms="-1",
            )  # fmt: skip
        for kill in range(4):
            with Peer(broker.bootstrap) as peer:
                fill(peer, name, *[now()] * (8 + kill))
            broker.restart(kill=True)
        with Peer(broker.bootstrap) as peer:
            end = 2 * (8 + 9 + 10 + 11)
            assert peer.offset_at(name, -1) == (0, end)
            eventually(lambda: first(peer, name) >= end - 20)
            begin = first(peer, name)
            assert offsets(peer, name) == list(range(begin, end, 2))
            assert end - begin >= 18  # three MiB stay
    finally:
        broker.stop(kill=True)
