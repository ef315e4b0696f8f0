"""A whole system serves with a ranker: the rows that it logged with its slates, made of the log again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from flows.offline import history
from flows.offline.history import Cut, Log, fold
from infra.apps.bulk_import.catalogue import send_catalogue
from infra.apps.bulk_import.system import Endpoint
from infra.apps.demo.history import settle
from infra.apps.replay.scenes import FEATURES
from infra.apps.replay.world import ReplayWorld
from infra.client.client import Client
from infra.datasets.movielens import Dataset
from infra.kafka.changes import publish, serve
from infra.kafka.reader import Topics
from infra.local.services import wait_until
from infra.local.system import System
from models.evaluation.ranking import Lists
from models.release import artefact, content
from models.release.release import Release
from models.release.write import save
from models.training import ranker
from schemas import slates
from schemas.alphabet import Position
from schemas.control import Released
from schemas.identity import item_hash
from schemas.releases import ENCODER, HASHES, VECTORS, Space
from schemas.slates import Slate
from schemas.state.counting import BUILT_IN
from schemas.times import iso
from serving.decide import offline
from serving.decide.case import Ask
from serving.decide.decide import decide
from serving.decide.person import from_log
from serving.world.placements import BUILT_IN_RECIPES
from tests.support.demo_data import catalogue
from tests.support.releases import manifest
from tests.system.test_cli import read_json

pytestmark = [pytest.mark.check, pytest.mark.timeout(300)]
PLACEMENT = "replay"
RELEASE = "2026-11-24.1"
HISTORY = 0.6
"""Share of the ratings that come before the release."""


def released(system: System, found: Dataset) -> Release:
    """A release that serves, with a ranker of as many columns as random choices give it."""
    chance, settings = np.random.default_rng(5), system.settings
    rows = chance.random((4_000, len(FEATURES)), np.float32)
    target = np.zeros(len(rows), np.bool_)
    by_list = rows.reshape(-1, 10, len(FEATURES)).sum(2)
    target[np.arange(0, len(rows), 10) + by_list.argmax(1)] = True
    fitted = ranker.fit(Lists(rows, target, np.full(400, 10)), FEATURES, {"covisit": 1.0})
    hashes = np.array(sorted(item_hash(it.item_id) for it in found.items), np.uint64)
    vectors = content.rows_on_grid(chance.normal(size=(len(hashes), content.DIM)))
    arrays = {
        HASHES: hashes,
        VECTORS: np.rint(vectors * content.GRID).astype(np.int16),
        ENCODER: np.eye(content.DIM, dtype=np.float32),
    }
    space = Space(name="random", dim=content.DIM, items=len(hashes))
    # the counting in force, so that its promotion publishes no list anew beside the reads
    made = manifest(RELEASE, features=fitted.features, space=space, counting=BUILT_IN)
    sha = save(settings.releases, made, arrays, fitted.export())
    loaded = artefact.load(settings.releases / RELEASE, sha)
    publish(settings, "release", RELEASE, Released(manifest_sha256=sha, counting=made.counting))
    serve(settings, RELEASE)
    wait_until(
        lambda: (read_json(system, "status")["serving"] or {}).get("release") == RELEASE,
        20,
        "the release does not serve",
    )
    return loaded


async def play(system: System, found: Dataset, start: int) -> None:
    """A read before each event, which includes the person's earlier ones."""
    positions: dict[str, str] = {}
    async with Client(system.url, system.token) as client:
        for rating in found.ratings[start:]:
            after = positions.get(rating.user_id)
            await client.recommendations(
                rating.user_id, placement=PLACEMENT, after=after, now=iso(rating.at)
            )
            sent = await client.send_events([rating.body], history=True)
            positions[rating.user_id] = sent.value.positions[0]


def logged(system: System) -> list[Slate]:
    topics, found = Topics(system.settings), list[Slate]()
    for partition in range(system.settings.partitions):
        end = topics.bounds("slates", partition)[1]
        for batch in topics.read("slates", partition, 0, end):
            found += [slates.decode(value) for value in batch.values if value]
    return found


def again(
    system: System, log: Log, release: Release, shown: list[Slate]
) -> Iterator[tuple[Slate, list[str], list[tuple[float, ...]]]]:
    """Each slate, and the items and rows that the log gives for the state and the tables that it names."""
    places = [Position.parse(it.position) for it in shown]
    cuts = [
        Cut(place.partition, place.offset + 1, it.person or "")
        for place, it in zip(places, shown, strict=True)
    ]
    states, facts = fold(log, cuts, system.settings)
    recipe, exact = BUILT_IN_RECIPES[PLACEMENT], system.settings.exact_search
    world = offline.world(log.items, recipe=recipe, release=release, exact=exact)
    replayed = ReplayWorld(world, facts)
    tables = [[int(text) for text in it.tables.split(".")] for it in shown]
    for n in sorted(range(len(shown)), key=lambda n: sum(tables[n])):
        replayed.advance(tables[n])
        ask = Ask(now=shown[n].now, count=len(shown[n].items), seed=shown[n].seed)
        items = decide(from_log(*states[cuts[n]]), replayed.world, ask).items
        yield shown[n], [it.item_id for it in items], [it.features for it in items]


def test_rows_logged_with_slates_are_those_made_of_the_log(system: System) -> None:
    found = catalogue(people=8, each=14)
    start = int(HISTORY * len(found.ratings))
    send_catalogue(
        Endpoint(system.url, system.token),
        Dataset(found.items, found.ratings[:start], found.source),
    )
    settle(system)
    release = released(system, found)
    assert len(release.features) > 10
    asyncio.run(play(system, found, start))
    count = len(found.ratings) - start
    wait_until(lambda: len(logged(system)) >= count, 30, "the slates do not come to the log")

    # a slate before the first event of a person has no position of theirs
    shown = [it for it in logged(system) if it.release == RELEASE and it.position]
    compared = 0
    for slate, ids, rows in again(system, history.read(system.settings), release, shown):
        assert ids == [it.item_id for it in slate.items]
        theirs = np.array([it.features for it in slate.items])
        np.testing.assert_allclose(np.array(rows), theirs, rtol=0, atol=1e-6)
        compared += theirs.shape == (len(ids), len(release.features))  # strangers are not ranked
    assert compared > 20
