"""The lake in a bucket: over HTTP, against the S3 endpoint that the package moto ships (`moto_server`)."""

from __future__ import annotations

import msgspec
import pytest

from flows.offline.sql import Tables
from flows.people import cold
from flows.verify.run import verify
from infra.kafka.reader import Topics
from infra.lake import cold_objects, errors
from infra.lake.compact import compact
from infra.lake.log import open_log
from infra.lake.reader import Lake
from infra.lake.store import Store
from infra.lake.sweep import sweep
from infra.settings import Settings
from infra.store import redis_client
from schemas.identity import partition_of
from schemas.keys import PLAIN
from schemas.topics import EVENTS
from tests.integration.lake import test_cold
from tests.integration.lake.test_lake_flow import fill, same
from tests.laws.world import action
from tests.support import lakes
from tests.support.lakes import DAY, HOUR, everything, put
from tests.support.running import fill_lake, send_events

pytestmark = pytest.mark.check


def test_the_flow_writes_to_a_bucket_and_every_reader_reads_from_it(
    settings: Settings, bucket: str
) -> None:
    settings = msgspec.structs.replace(settings, lake_url=bucket.format("flow"))
    fill(settings)
    for _ in range(2):
        fill_lake(settings)
    assert all(same(settings, EVENTS.name, p) for p in range(settings.partitions))
    assert not settings.data_dir.joinpath("lake").exists()
    assert open_log(settings).bounds(EVENTS.name, 0) == (0, 301)
    names, rows = Tables(settings).ask(
        'SELECT count(*) AS n, max("offset") AS last FROM events WHERE partition = 0'
    )
    assert (names, list(rows)) == (["n", "last"], [(301, 300)])


def test_a_day_is_compacted_and_swept_in_a_bucket(bucket: str) -> None:
    lake = Lake(Store(bucket.format("days")))
    put(lake, lakes.a_day(2_000, 20, 8))
    put(lake, lakes.a_day(100, 20, 1, day=DAY + 24 * HOUR, start=2_000))
    before = everything(lake)
    (done,) = compact(lake, EVENTS.name, 0, DAY + 30 * HOUR)
    assert done.replaced == 8
    assert everything(lake)[:5] == before[:5]
    swept = sweep(lake, EVENTS.name, max(it.at for it in lake.store.list("")) + 3601)
    assert (swept.entries, swept.objects) == (8, 8)
    assert everything(lake)[:5] == before[:5]


def test_an_object_that_was_cut_is_found_torn(bucket: str) -> None:
    lake = Lake(Store(bucket.format("cut")))
    (entry,) = put(lake, lakes.a_day(100, 5, 1))
    lake.store.put(entry.name, lake.store.get(entry.name)[:-9])
    with pytest.raises(errors.LakeTorn, match=entry.name):
        everything(lake)


def test_a_missing_bucket_is_a_lake_that_takes_nothing(bucket: str) -> None:
    lake = Lake(Store(bucket.format("x").replace("s3://lake/", "s3://another/")))
    with pytest.raises(errors.LakeAway, match="the lake takes nothing: data/events"):
        put(lake, lakes.a_day(10, 5, 1))


def test_the_cold_tier_moves_people_to_a_bucket_and_back(
    settings: Settings, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold, "POLL_SECONDS", -1.0)
    settings = msgspec.structs.replace(settings, lake_url=bucket.format("cold"))
    send_events(settings, test_cold.crowd(1000))
    worker = test_cold.open_worker(settings)
    with redis_client.connect(settings) as client:
        test_cold.drive(worker)
        before = test_cold.held(client)
        orphan = cold_objects.put(settings, 0, 0, 7, {"a" * 32: {b"u": b"x"}})
        test_cold.sweep(client, worker)
        assert len(test_cold.values_like(client, "t:*")) > 40
        report = verify(settings, Topics(settings), sums=False)
        assert report.mismatches == []
        assert report.people_checked > 40
        monkeypatch.setattr(cold_objects, "GRACE_SECONDS", -1000.0)
        test_cold.sweep(client, worker)
        there = {p: test_cold.objects(settings, p) for p in worker.partitions}
        assert orphan not in there[0]
        assert there == {p: test_cold.named(client, p) for p in worker.partitions}
        assert not settings.data_dir.joinpath("lake").exists()
        test_cold.bring_all_back(client, worker)
        assert test_cold.held(client) == before
        assert test_cold.values_like(client, "t:*") == {}
        test_cold.sweep(client, worker, before=1)
        assert not any(test_cold.objects(settings, p) for p in worker.partitions)
    worker.close()


def test_a_bucket_that_lost_an_object_of_the_cold_tier_stops_the_flow_with_a_sentence(
    settings: Settings, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold, "POLL_SECONDS", -1.0)
    settings = msgspec.structs.replace(settings, lake_url=bucket.format("lost"))
    made, who = action(1, 7), action(1, 7).person
    p = partition_of(who.encode(), settings.partitions)
    send_events(settings, [made])
    worker = test_cold.open_worker(settings)
    with redis_client.connect(settings) as client:
        test_cold.drive(worker)
        test_cold.sweep(client, worker)
        name = client.get(PLAIN.tombstone(p, who)).decode()
        cold_objects.delete(settings, name)
        with pytest.raises(cold_objects.ColdTorn, match=r"cold/generation=0/.*freshet rebuild"):
            worker.tiers[p].warm([who])
        assert client.get(PLAIN.tombstone(p, who)) == name.encode()
    worker.close()
