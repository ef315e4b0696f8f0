"""Items that come after their events: on a whole system, with `freshet verify` after each step."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.verify.run import verify
from infra.lake.log import open_log
from infra.local.services import wait_until
from infra.local.system import System, running
from infra.store import generation, redis_client
from schemas.identity import item_hash
from schemas.state import tables
from tests.flows.faults import behind_published
from tests.system.test_cli import freshet, read_json

pytestmark = [pytest.mark.check, pytest.mark.timeout(300)]
UNKNOWN_IDS = 100_000
MAX_BYTES = 10_000_000


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A whole `freshet up` that stores its tables often: each comparison waits for that."""
    often = {"FRESHET_BASE_SECONDS": "2", "FRESHET_AUTH": "off"}
    with running(tmp_path_factory.mktemp("system"), environment=often) as up:
        yield up


def ask(system: System, method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        f"{system.url}{path}",
        None if body is None else json.dumps(body).encode(),
        {"content-type": "application/json"},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read()) from None


def exact(system: System) -> None:
    settings = system.settings
    with redis_client.connect(settings) as client:
        wait_until(lambda: not behind_published(settings, client), 60, "the flows do not catch up")
        wait_until(lambda: stored(system) == published(system), 90, "no base is stored")
    assert verify(settings, open_log(settings)).mismatches == []


def published(system: System) -> list[int]:
    with redis_client.connect(system.settings) as client:
        keys = generation.live_keys(client, system.settings).tables()
        held = client.get(keys.meta)
        assert held is not None
        return tables.META_DECODER.decode(held).positions


def stored(system: System) -> list[int]:
    from models.aggregates.tables import Tables

    with redis_client.connect(system.settings) as client:
        keys = generation.live_keys(client, system.settings).tables()
        head = client.get(keys.base)
        chunks = client.mget(keys.base_chunks(head)) if head else []
        return Tables.load(b"".join(chunks)).positions if head and all(chunks) else []


def popular(system: System) -> set[str]:
    shown = ask(system, "GET", "/v1/popular?count=20")["items"]
    return {it["item_id"] for it in shown}


def neighbours(system: System, item: str) -> set[int]:
    with redis_client.connect(system.settings) as client:
        keys = generation.live_keys(client, system.settings).tables()
        held = client.hget(keys.neighbours, item_hash(item).to_bytes(8, "little"))
    return set(tables.neighbours(held or b"")["item"].tolist())


def status(system: System) -> dict[str, Any]:
    found: dict[str, Any] = ask(system, "GET", "/v1/status")
    return found


def test_events_on_an_id_count_once_its_item_is_put(system: System) -> None:
    names = ["late-1", "late-2", "late-3"]
    for n in range(12):
        lines = [{"user_id": f"u{n}", "item_id": it, "action": "click"} for it in names]
        ask(system, "POST", "/v1/events", {"events": lines})
    wait_until(lambda: status(system)["waiting_items"] >= 3, 30, "nothing waits")
    assert not popular(system) & set(names)
    exact(system)
    for name in names:
        ask(system, "PUT", f"/v1/items/{name}", {"title": name, "category": "c"})
    wait_until(lambda: status(system)["waiting_items"] == 0, 30, "what waited does not count")
    assert popular(system) == set(names)
    similar = ask(system, "GET", "/v1/items/late-1/similar")["items"]
    assert {it["item_id"] for it in similar} == set(names[1:])
    for name in names:
        assert neighbours(system, name) == {item_hash(it) for it in names if it != name}
    exact(system)
    rows = read_json(system, "rebuild", "--from", "beginning")
    assert rows["events"] > 0
    exact(system)
    assert popular(system) == set(names)


def test_many_ids_that_no_item_has_are_bounded(system: System, tmp_path: Path) -> None:
    before = status(system)
    slots = before["items"]
    rng = np.random.default_rng(1)
    for batch in range(10):
        file = tmp_path / f"{batch}.ndjson"
        with file.open("w") as lines:
            for n in range(batch * UNKNOWN_IDS // 10, (batch + 1) * UNKNOWN_IDS // 10):
                at = f"2026-01-{1 + int(rng.integers(20)):02}T{n % 24:02}:{n % 60:02}:00Z"
                event = {"user_id": f"v{n % 5000}", "item_id": f"none-{n}", "action": "view"}
                lines.write(json.dumps({**event, "event_id": f"n{n}", "occurred_at": at}) + "\n")
        freshet("import", "--events", file, "--url", system.url, "--data-dir", system.directory)
    wait_until(
        lambda: status(system)["waiting_items"] >= UNKNOWN_IDS, 120, "the imported do not wait"
    )
    after = status(system)
    assert after["items"] == slots
    assert after["unknown_over_limit"] == 0
    exact(system)
    assert size_of_waiting(system) < MAX_BYTES


def test_an_import_says_how_many_of_its_events_came_over_the_limit(tmp_path: Path) -> None:
    limited = {"FRESHET_PARTITIONS": "1", "FRESHET_UNKNOWN_IMPORTED": "2", "FRESHET_AUTH": "off"}
    with running(tmp_path / "limited", "--workers", "1", environment=limited) as up:
        lines = [
            {"user_id": "ann", "item_id": f"none-{n % 5}", "action": "view"}
            | {"occurred_at": f"2026-01-01T{n:02}:00:00Z"}
            for n in range(10)
        ]
        (events := tmp_path / "events.ndjson").write_text("\n".join(map(json.dumps, lines)))
        report = read_json(up, "import", "--events", events)["events"]
        assert (report["unknown_items"], report["unknown_over_limit"]) == (10, 6)
        assert status(up)["unknown_over_limit"] == 6
        done = freshet("import", "--events", events, "--data-dir", up.directory)
        assert "never count" not in done.stdout, "each was counted before"


def size_of_waiting(system: System) -> int:
    """The bytes of what waits: in Redis (the stored tables), and in the roll-up."""
    from models.aggregates.tables import Tables
    from models.aggregates.waiting_form import dump_waiting

    with redis_client.connect(system.settings) as client:
        keys = generation.live_keys(client, system.settings).tables()
        head = client.get(keys.base)
        assert head is not None
        held = Tables.load(b"".join(client.mget(keys.base_chunks(head))))
    stored = sum(column.nbytes for column in dump_waiting(held.waiting).values())
    return stored + sum(day.size for days in held.waiting.days for day in days.values())
