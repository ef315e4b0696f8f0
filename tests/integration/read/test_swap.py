"""Releases come and go under load: no answer fails, none is made of two, no bad one is taken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.local import services
from models.release import content
from models.release.write import save
from schemas.control import Current, Released
from schemas.identity import item_hash
from schemas.releases import ENCODER, HASHES, VECTORS, Manifest, Space, TrainingData
from tests.support.http import ask
from tests.support.shops import ITEMS, Shop, opened

FIRST, SECOND, THIRD, FOURTH = (f"2026-11-24.{n}" for n in (1, 2, 3, 4))
LARGE = 1000.0
CALLERS = 4


@pytest.fixture(scope="module")
def shop(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    home = tmp_path_factory.mktemp("swap")
    with opened(redis_url, broker, home) as found:
        for name, weight in ((FIRST, 1.0), (SECOND, LARGE), (THIRD, 1.0), (FOURTH, 1.0)):
            sha = release(found.server.settings.releases, name, weight)
            found.control(f"release:{name}", Released(manifest_sha256=sha))
        yield found


def release(directory: Path, name: str, weight: float) -> str:
    """A release that scores by popularity x `weight`, so that scores show which release made them."""
    hashes = np.sort(np.array([item_hash(it.item_id) for it in ITEMS], np.uint64))
    vectors = np.random.default_rng(0).normal(size=(len(hashes), content.DIM))
    manifest = Manifest(
        format=0,
        id=name,
        created_at=0,
        parent="",
        code="test",
        features=(),
        schema="",
        space=Space(name="random", dim=content.DIM, items=len(hashes)),
        coarse={"popular": weight},
        files={},
        metrics={},
        data=TrainingData(events=0, offsets=(), first=0, last=0),
    )
    arrays = {
        HASHES: hashes,
        VECTORS: (content.rows_on_grid(vectors) * content.GRID).astype(np.int16),
        ENCODER: np.eye(content.DIM, dtype=np.float32),
    }
    return save(directory, manifest, arrays, None)


def make_current(shop: Shop, name: str, version: int, *, rollback: bool = False) -> None:
    shop.control("policy:release", Current(release=name, rollback=rollback), version)


def serves(shop: Shop, name: str) -> None:
    services.wait_until(
        lambda: shop.read("user_id=u1")["served_by"]["release"] == name,
        10,
        f"{name} does not serve",
    )


def made_by(body: Any) -> str:
    """The release that made this answer, by its id and by its scores, which must agree."""
    name: str = body["served_by"]["release"]
    assert body["served_by"]["index"].startswith(f"{name}@")
    assert len(body["items"]) == 10
    assert (body["items"][0]["score"] > 1) == (name == SECOND), body["served_by"]
    return name


def test_releases_swap_under_load_without_an_error_or_a_mixed_answer(shop: Shop) -> None:
    make_current(shop, FIRST, 1)
    serves(shop, FIRST)
    stop = threading.Event()
    made: list[str | int] = []
    wrong: list[Exception] = []

    def call(number: int) -> None:
        connection = shop.server.connect()
        try:
            while not stop.is_set():
                path = f"/v1/recommendations?user_id=u{number}"
                answer = ask(connection, "GET", path)
                made.append(made_by(answer.json) if answer.status == 200 else answer.status)
        except Exception as error:
            wrong.append(error)
        finally:
            connection.close()

    def has_served(name: str, since: int) -> bool:
        return bool(wrong) or name in made[since:]

    callers = [threading.Thread(target=call, args=(n,)) for n in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        for version, name in enumerate((SECOND, FIRST, SECOND, FIRST, SECOND), 2):
            make_current(shop, name, version, rollback=name == FIRST)
            services.wait_until(
                partial(has_served, name, len(made)),
                20,
                f"{name} never serves",
            )
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert not wrong
    assert set(made) == {FIRST, SECOND}


def test_a_corrupt_release_never_replaces_a_good_one(shop: Shop) -> None:
    make_current(shop, SECOND, 20)
    serves(shop, SECOND)
    whole = (shop.server.settings.releases / THIRD / VECTORS).read_bytes()
    (shop.server.settings.releases / THIRD / VECTORS).write_bytes(whole[:-9])
    make_current(shop, THIRD, 21)
    services.wait_until(
        lambda: "cut short" in shop.server.log.read_text(), 10, "no log line says so"
    )
    body = shop.read("user_id=u1")
    assert made_by(body) == SECOND
    assert body["fallback"] in (None, "popular")
    degraded = shop.get("/health/ready").json["degraded"]
    [fault] = [it for it in degraded if it["part"] == "releases"]
    assert fault["code"] == "not_loaded"
    assert f"{SECOND} serves" in fault["detail"]
    refused = shop.get("/metrics").body.decode()
    assert 'freshet_release_refused_total{why="cut_short"}' in refused
    (shop.server.settings.releases / THIRD / VECTORS).write_bytes(whole)


@pytest.mark.check
def test_a_release_whose_files_come_late_serves_once_they_are_whole(shop: Shop) -> None:
    """After the time that a refused release waits until it is tried again."""
    vectors = shop.server.settings.releases / FOURTH / VECTORS
    whole = vectors.read_bytes()
    vectors.write_bytes(whole[:-9])
    make_current(shop, FOURTH, 40)
    services.wait_until(
        lambda: f"release {FOURTH}" in shop.server.log.read_text(), 10, "no log line says so"
    )
    vectors.write_bytes(whole)
    serves(shop, FOURTH)


def test_a_missing_release_does_not_replace_the_serving_one(shop: Shop) -> None:
    make_current(shop, SECOND, 30)
    serves(shop, SECOND)
    shop.control("release:2026-11-25.1", Released(manifest_sha256="0" * 64))
    make_current(shop, "2026-11-25.1", 31)
    services.wait_until(
        lambda: "2026-11-25.1" in shop.server.log.read_text(), 10, "no log line says so"
    )
    assert made_by(shop.read("user_id=u1")) == SECOND
    make_current(shop, "", 32)
    services.wait_until(
        lambda: (
            "@" not in shop.read("user_id=u1")["served_by"]["release"]
            and shop.read("user_id=u1")["served_by"]["release"] != SECOND
        ),
        10,
        "a release is still there",
    )
