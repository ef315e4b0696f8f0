"""`freshet import` into a whole system: what counts, and what a dry run says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.kafka import kafka_client
from infra.local.system import System
from schemas.topics import EVENTS
from tests.support.waits import until
from tests.system.test_cli import freshet, read_json

MONDAY = (
    '{"user_id":"kim","item_id":"cup","action":"view","occurred_at":"2026-11-20T09:00:00Z"}\n'
    '{"user_id":"lee","item_id":"pan","action":"view","occurred_at":"2026-11-20T09:01:00Z"}\n'
)
TUESDAY = (
    '{"user_id":"max","item_id":"cup","action":"view","occurred_at":"2026-11-21T08:00:00Z"}\n'
    + MONDAY
)
MIXED = (
    TUESDAY.replace("view", "like")
    + '{"user_id":"kim","item_id":"cup","action":"swim","occurred_at":"2026-11-20T09:00:00Z"}\n'
    + '{"user_id":"null","item_id":"cup","action":"view","occurred_at":"2026-11-20T09:00:00Z"}\n'
    + '{"user_id":"kim","item_id":"cup","action":"view","occurred_at":"2062-11-20T09:00:00Z"}\n'
    + '{"user_id":"kim","item_id":"cup","action":"view"}\n'
    + "{\n"
)
ITEMS = '{"item_id":"cup","title":"Cup"}\n{"item_id":"bad","tags":[""]}\n'


@pytest.fixture
def events(tmp_path: Path) -> Path:
    return tmp_path / "events.ndjson"


def imported(system: System, *options: object, code: int = 0) -> dict[str, Any]:
    done = freshet("import", "--json", "--data-dir", system.directory, *options, code=code)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def counts(system: System, person: str) -> Any:
    until(lambda: read_json(system, "inspect", "user", person)["known"])
    return read_json(system, "inspect", "user", person)["counts"]


def test_the_id_of_the_log_is_in_the_status(system: System) -> None:
    serving = read_json(system, "status")["serving"]
    admin = kafka_client.admin(system.settings)
    try:
        (found,) = kafka_client.describe(admin, [EVENTS.name]).values()
    finally:
        admin.close()
    assert serving["events_topic"] == found.id != ""


def test_a_dump_of_every_night_counts_once(system: System, events: Path) -> None:
    events.write_text(MONDAY)
    assert imported(system, "--events", events)["events"]["accepted"] == 2
    events.write_text(TUESDAY)
    again = imported(system, "--events", events)["events"]
    assert (again["accepted"], again["already_sent"]) == (1, 2)
    for person in ("kim", "lee", "max"):
        assert counts(system, person) == {"view": 1}


def test_a_dry_run_says_what_an_import_then_does(
    system: System, events: Path, tmp_path: Path
) -> None:
    events.write_text(MIXED)
    (items := tmp_path / "items.ndjson").write_text(ITEMS)
    options = ("--items", items, "--events", events, "--source", "mixed")
    memory = system.directory / "imports" / "mixed"
    rehearsed = imported(system, *options, "--dry-run", code=1)
    assert not memory.exists()
    done = imported(system, *options, code=1)
    for name in ("items", "events"):
        for key in ("read", "sent", "accepted", "already_sent", "rejected", "faults", "duplicates"):
            assert rehearsed[name][key] == done[name][key], (name, key)
    assert rehearsed["events"]["actions"] == {"like": 3}
    assert rehearsed["events"]["unknown_items"] == 1, "the item of the file counts as there"
    assert rehearsed["events"]["positions"] == []
    after = imported(system, *options, "--dry-run", code=1)["events"]
    assert (after["accepted"], after["already_sent"]) == (0, 3)
    said = freshet("import", *options, "--dry-run", "--data-dir", system.directory, code=1).stdout
    assert "events: 0 of 8 would be sent" in said
    assert "3 of 8 lines already sent" in said
    assert "1 rejected: action unknown_action" in said


def test_a_dry_run_asks_the_system_about_items(
    system: System, events: Path, tmp_path: Path
) -> None:
    (items := tmp_path / "items.ndjson").write_text('{"item_id":"pot","title":"Pot"}\n')
    imported(system, "--items", items)
    lines = (MONDAY + TUESDAY).replace('"pan"', '"pot"').replace('"cup"', '"none"')
    events.write_text(lines.replace("view", "click"))
    report = imported(system, "--events", events, "--dry-run")["events"]
    assert (report["accepted"], report["unknown_items"]) == (5, 3)
    assert [it["code"] for it in report["warnings"]] == ["out_of_order", "unknown_items"]


def test_a_dry_run_needs_no_system(events: Path, tmp_path: Path) -> None:
    events.write_text(MIXED)
    folder = tmp_path / "data"
    done = freshet(
        "import", "--json", "--events", events, "--dry-run", "--data-dir", folder, code=1
    )
    report = json.loads(done.stdout)["events"]
    assert (report["accepted"], report["already_sent"], report["unknown_items"]) == (3, 0, 3)
    codes = [it["code"] for it in report["warnings"]]
    assert codes == ["out_of_order", "items_not_asked", "no_system"]
    assert not folder.exists()


def test_nothing_local_need_run_for_an_address(
    system: System, events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events.write_text(MONDAY.replace("cup", "lid"))
    monkeypatch.setenv("FRESHET_TOKEN", system.token)
    options = ("--url", system.url, "--data-dir", tmp_path / "away", "--events", events)
    for sent in (2, 0):
        done = freshet("import", "--json", *options)
        assert json.loads(done.stdout)["events"]["sent"] == sent
    assert (tmp_path / "away" / "imports" / "default").is_dir()
