"""`people` follows the current release."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

import schemas.releases
from flows.people.batch import read_of
from flows.people.dataflow import People
from flows.people.encoder import CurrentRelease
from infra.releases.bucket import upload
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from models.release import content
from models.release.content import DIM
from models.release.person import Encoder, person_vector
from models.release.release import Release, Space
from models.release.write import save
from schemas.control import CURRENT, Current, Held, Released
from schemas.identity import item_hash
from schemas.keys import PLAIN
from schemas.releases import ENCODER, HASHES, VECTORS, Manifest, TrainingData
from schemas.state import vectors
from tests.laws.test_vector_laws import space
from tests.laws.world import action, log_of, person

ONE, TWO, BROKEN = "2026-01-01.0", "2026-01-01.1", "2026-01-02.0"


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    with redis_client.connect(Settings(redis_url=redis_url)) as connected:
        connected.flushall()
        yield connected


class Shelf:
    """A directory of releases, whose loading waits until it is let."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.open = threading.Event()
        self.open.set()

    def __call__(self, directory: Path, manifest_sha256: str) -> Release:
        self.open.wait(10)
        self.loaded.append(directory.name)
        self.sha256 = manifest_sha256
        if directory.name == BROKEN:
            raise ValueError("cut short")
        space = Space(np.empty(0, np.uint64), np.empty((0, DIM), np.float32), np.zeros_like)
        return Release(directory.name, (), {}, space)


def name(client: Client, release: str) -> None:
    body = msgspec.json.encode(Current(release=release)).decode()
    held = msgspec.json.encode(Held(version=1, body=body, offset=0))
    client.hset(PLAIN.control_state(), CURRENT, held)


def wait_until(follower: CurrentRelease, holds: Callable[[Encoder | None], bool]) -> None:
    """Polls the follower until the condition holds."""
    until = time.monotonic() + 10
    while not holds(follower.encoder()):
        assert time.monotonic() < until
        time.sleep(0.005)


def test_people_makes_vectors_by_the_release_that_control_names(client: Client) -> None:
    shelf = Shelf()
    follower = CurrentRelease(client, PLAIN, Path("releases"), shelf, poll_seconds=0)
    assert follower.encoder() is None
    name(client, ONE)
    wait_until(follower, lambda made: made is not None and made.release == ONE)
    name(client, TWO)
    shelf.open.clear()
    held = follower.encoder()
    assert held is not None
    assert held.release == ONE  # while the next release is read, no batch waits
    shelf.open.set()
    wait_until(follower, lambda made: made is not None and made.release == TWO)
    name(client, "")
    assert follower.encoder() is None
    assert shelf.loaded == [ONE, TWO]
    follower.close()


def test_a_release_that_cannot_be_loaded_is_logged_once_and_the_old_one_stays(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf()
    follower = CurrentRelease(client, PLAIN, Path("releases"), shelf, poll_seconds=0)
    name(client, ONE)
    wait_until(follower, lambda made: made is not None)
    for bad, why in ((BROKEN, "cut short"), ("../../etc", "not the id of a release")):
        caplog.clear()
        name(client, bad)
        with caplog.at_level(logging.WARNING):
            wait_until(follower, lambda made: bool(caplog.messages))
            for _ in range(3):
                held = follower.encoder()
                assert held is not None
                assert held.release == ONE
        assert caplog.messages == [f"release {bad} cannot be loaded: {why}"]
    assert shelf.loaded == [ONE, BROKEN]  # an invalid id of a release is no path either
    name(client, TWO)
    wait_until(follower, lambda made: made is not None and made.release == TWO)
    follower.close()


def test_a_release_that_could_not_be_loaded_is_tried_again_without_a_log_line(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf()
    follower = CurrentRelease(
        client, PLAIN, Path("releases"), shelf, poll_seconds=0, retry_seconds=0
    )
    name(client, BROKEN)
    with caplog.at_level(logging.WARNING):
        wait_until(follower, lambda made: len(shelf.loaded) > 2)
    assert len(caplog.messages) == 1
    follower.close()


def test_a_release_is_loaded_by_the_sha256_of_its_published_manifest(client: Client) -> None:
    shelf = Shelf()
    follower = CurrentRelease(client, PLAIN, Path("releases"), shelf, poll_seconds=0)
    body = msgspec.json.encode(Released(manifest_sha256="ab" * 32)).decode()
    held = msgspec.json.encode(Held(version=1, body=body, offset=0))
    client.hset(PLAIN.control_state(), f"release:{ONE}", held)
    name(client, ONE)
    wait_until(follower, lambda made: made is not None)
    assert shelf.sha256 == "ab" * 32
    follower.close()


def test_an_unreadable_release_in_control_is_none(client: Client) -> None:
    client.hset(PLAIN.control_state(), CURRENT, b"{")
    follower = CurrentRelease(client, PLAIN, Path("releases"), Shelf(), poll_seconds=0)
    assert follower.encoder() is None
    follower.close()


@pytest.mark.parametrize("shared", [False, pytest.param(True, marks=pytest.mark.check)])
def test_the_worker_makes_vectors_by_a_release_on_disk(
    settings: Settings, shared: bool, tmp_path: Path
) -> None:
    """In its folder, or fetched into it."""
    release = space(5)
    manifest = Manifest(
        format=0,
        id=ONE,
        created_at=0,
        parent="",
        code="test",
        features=(),
        schema="",
        space=schemas.releases.Space(name="random", dim=content.DIM, items=5),
        coarse={},
        files={},
        metrics={},
        data=TrainingData(events=0, offsets=(), first=0, last=0),
    )
    arrays = {
        HASHES: release.hashes,
        VECTORS: (release.vectors * content.GRID).astype(np.int16),
        ENCODER: np.eye(content.DIM, dtype=np.float32),
    }
    save(settings.releases, manifest, arrays, None)
    if shared:
        settings = msgspec.structs.replace(settings, release_url=str(tmp_path / "shared"))
        upload(settings, ONE)
        shutil.rmtree(settings.releases)
    worker = People(settings)
    name(worker.redis, ONE)
    until = time.monotonic() + 20
    made, n = None, 0
    while made is None:
        assert time.monotonic() < until
        log = log_of([action(n, item="i1")], start=n)
        n += 1
        [write] = worker.fold(worker.dedupe(read_of(0, n - 1, n, log)))
        made = write.values.get(PLAIN.vector(0, person(1)))
    held = vectors.DECODER.decode(made)
    assert (held.release, held.complete) == (ONE, True)
    plain, _ = person_vector(np.array([item_hash("i1")], np.uint64), release)
    assert np.frombuffer(held.grid, "<i2").tolist() == (plain * content.GRID).tolist()
    worker.close()


def test_the_release_is_not_looked_up_at_every_batch(client: Client) -> None:
    follower = CurrentRelease(client, PLAIN, Path("releases"), Shelf(), poll_seconds=3600)
    assert follower.encoder() is None
    name(client, ONE)
    for _ in range(100):
        assert follower.encoder() is None
    follower.close()
