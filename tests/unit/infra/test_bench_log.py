"""The made-up audience is deterministic, skewed as people are, and in the API's format."""

from __future__ import annotations

import json
import os
from collections import Counter
from itertools import islice

import msgspec
import numpy as np
import pytest

from infra.apps.bench import audience
from infra.apps.bench.services import clean_environment
from schemas import events
from schemas.events import EventIn


def test_the_same_seed_gives_the_same_events_and_another_gives_other_ids() -> None:
    assert list(audience.actions(50, seed=3)) == list(audience.actions(50, seed=3))
    ids = [{a.event_id for a in audience.actions(50, seed=seed)} for seed in (3, 4)]
    assert len(ids[0]) == 50
    assert not ids[0] & ids[1]


def test_events_decode_as_the_flow_reads_them() -> None:
    for action in islice(audience.actions(200), 200):
        assert events.decode_stored(events.encode(action)) == action
    size = sum(len(events.encode(a)) for a in audience.actions(2_000)) / 2_000
    assert 200 < size < 260


def test_few_people_do_much_and_few_items_get_much() -> None:
    chance = np.random.default_rng(0)
    for drawn, top in (
        (audience.people(chance, 20_000), 0.1),
        (audience.items(chance, 20_000), 0.3),
    ):
        counts = sorted(Counter(drawn.tolist()).values(), reverse=True)
        assert len(counts) > 1_000
        assert sum(counts[: len(counts) // 10]) > top * 20_000
        assert drawn.min() >= 0


def test_bodies_are_one_users_events_each_named_once() -> None:
    made = list(audience.bodies(30, 10, ["a", "b"], 1_760_000_000_000, 500, seed=2))
    ids = set()
    for k, (user, body) in enumerate(made):
        sent = json.loads(body)["events"]
        assert len(sent) == 10
        assert {it["user_id"] for it in sent} == {user}
        assert {it["occurred_at"] for it in sent} == {f"2025-10-09T08:53:20.{2 * k:03d}Z"}
        ids |= {it["event_id"] for it in sent}
        assert msgspec.json.decode(json.dumps(sent[0]), type=EventIn).user_id == user
    assert len(ids) == 300


def test_a_single_event_is_no_batch() -> None:
    ((user, body),) = audience.bodies(1, 1, ["a"], 1_760_000_000_000, 1000, seed=1)
    assert json.loads(body)["user_id"] == user


def test_no_setting_of_the_caller_reaches_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAFKA_BOOTSTRAP", "REDIS_URL", "FRESHET_TOKEN", "FRESHET_PARTITIONS"):
        monkeypatch.setenv(name, "8")
    clean_environment()
    assert not {
        name
        for name in os.environ
        if name in ("KAFKA_BOOTSTRAP", "REDIS_URL", "FRESHET_PARTITIONS")
    }
