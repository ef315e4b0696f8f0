"""What is accepted counts, or a client sees that it does not: an order's lines, and what came twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.rebuild import in_place
from flows.verify.run import verify
from infra.apps.inspect.held import pseudonym_of, user_held
from infra.kafka.reader import Topics
from infra.local import services
from infra.settings import Settings
from infra.store import redis_client
from infra.terminal.progress import SilentReporter
from schemas.keys import PLAIN
from tests.support.http import serving
from tests.support.running import fold_people

LINES = [
    {"event_id": "order-1001", "user_id": "kim", "item_id": item, "action": "purchase", "value": of}
    for item, of in (("lamp", 39.0), ("rug", 99.0), ("vase", 19.0))
]


def held(settings: Settings) -> dict[str, Any]:
    return user_held(settings, pseudonym_of(settings, "kim", False), 0)


@pytest.fixture
def folded(settings: Settings, tmp_path: Path) -> dict[str, Any]:
    """`field/02`: three lines of one order, and the order again: what /v1/status says after the fold."""
    with serving(settings, tmp_path / "log") as server:
        for _ in range(2):
            answer = server.ask("POST", "/v1/events", {"events": LINES})
            assert (answer.status, answer.json["accepted"]) == (202, 3), answer.body
        fold_people(settings)

        def counted() -> bool:
            return bool(server.ask("GET", "/v1/status", None).json["not_counted"])

        services.wait_until(counted, 20, "the status does not say what is not counted")
        status: dict[str, Any] = server.ask("GET", "/v1/status", None).json
        return status


def test_three_lines_of_an_order_count_and_the_order_again_is_said(
    settings: Settings, folded: dict[str, Any]
) -> None:
    assert folded["not_counted"] == {"duplicate": 3}
    assert abs(folded["clock_skew_s"]) < 5
    assert folded["in_python"].keys() == {"decision", "source", "rule", "column", "ranker"}
    kim = held(settings)
    assert (kim["counts"], kim["duplicates"]) == ({"purchase": 3}, 3)


def test_verify_finds_a_wrong_tally_and_a_repair_mends_it(
    settings: Settings, folded: dict[str, Any]
) -> None:
    log = Topics(settings)
    assert not verify(settings, log).mismatches
    place = held(settings)["partition"]
    with redis_client.connect(settings) as client:
        key = PLAIN.tallies(place)
        assert client.hgetall(key) == {b"duplicate": b"3"}
        client.hset(key, mapping={"duplicate": 4, "unheard_of": 1})
        found = {(it.what, it.field) for it in verify(settings, log).mismatches}
        assert found == {("not counted", "reason duplicate"), ("not counted", "reason unheard_of")}
        assert not [it for it in verify(settings, log, people=1).mismatches if it.what == "row"]
        made = in_place.rebuild(client, settings, place, SilentReporter(Console(quiet=True)))
        assert (made["written"], made["deleted"]) == (1, 0)
        assert client.hgetall(key) == {b"duplicate": b"3"}
    assert not verify(settings, log).mismatches
