"""People's state of another version: readiness, log and metrics name it, and reads are answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from infra.apps.inspect.scrape import Samples, read, total
from infra.local import services
from infra.settings import Settings, signing_key
from infra.store import redis_client
from models.features.registry import ROW, VERSION, pack_rows
from schemas.alphabet import Pseudonym
from schemas.identity import partition_of, pseudonym
from schemas.keys import PLAIN
from schemas.state import tables
from serving.world.tables import EMPTY_META
from tests.integration.operate.test_scrape import value
from tests.support.http import Server, serving
from tests.support.worlds import NOW

OURS, FOREIGN = VERSION, VERSION + 1
WHAT_IT_SAYS = f"is of version {FOREIGN}, this Freshet reads version {VERSION - 1} and {VERSION}"
REMEDY = "freshet rebuild --from beginning"


def row(version: int) -> bytes:
    """The row of a person with one action, as code of this version would have stored it."""
    rows = np.zeros(1, ROW)
    rows["version"], rows["newest"], rows["n"] = version, NOW, 1
    return pack_rows(rows)[0]


def where(settings: Settings, user: str) -> tuple[int, Pseudonym]:
    name = pseudonym(*signing_key(settings), user)
    return partition_of(name.encode(), settings.partitions), name


def people(settings: Settings, versions: Mapping[str, int], generation: int = 0) -> None:
    """Stores rows as `people` of these versions would have."""
    with redis_client.connect(settings) as client:
        for user, version in versions.items():
            client.set(PLAIN.in_generation(generation).row(*where(settings, user)), row(version))


@contextmanager
def started(settings: Settings, tmp_path: Path) -> Iterator[Server]:
    with serving(msgspec.structs.replace(settings, port=0), tmp_path / "log") as server:
        yield server


ROWS = {"people": "foreign_version"}
OTHERS = {"people": "unreadable"}


def until(server: Server, status: int, faults: Mapping[str, str]) -> Any:
    """The answer of `/health/ready` once it has this status and these faults: code by component."""
    found: list[Any] = []

    def as_expected() -> bool:
        answer = server.ask("GET", "/health/ready")
        seen = {it["part"]: it["code"] for it in answer.json.get("degraded", ())}
        seen |= {it["field"]: it["code"] for it in answer.json.get("errors", ())}
        found[:] = [answer.json]
        return (answer.status, seen) == (status, faults)

    services.wait_until(as_expected, 20, f"it is not {status} with {faults}")
    return found[0]


def same_everywhere(server: Server, component: str, code: str) -> None:
    """Asserts that status and metrics agree with readiness."""

    def agree() -> bool:
        status = server.ask("GET", "/v1/status").json
        ready = scraped(server)["freshet_ready"]
        return (
            [(it["part"], it["code"]) for it in status["fails"] + status["degraded"]]
            == [(component, code)]
            and [name for name, ready in status["ready"].items() if not ready] == [component]
            and {dict(labels)["part"]: bool(n) for labels, n in ready.items()} == status["ready"]
        )

    services.wait_until(agree, 20, "they do not agree")


def scraped(server: Server) -> Samples:
    return read(server.ask("GET", "/metrics").body.decode())


def answer(server: Server, user: str) -> Any:
    found = server.ask("GET", f"/v1/recommendations?user_id={user}")
    assert found.status == 200
    return found.json


def test_a_version_that_reads_no_row_is_not_ready_and_says_why_once(
    settings: Settings, tmp_path: Path
) -> None:
    """It is not ready before its first request, so it gets none."""
    users = [f"u{n}" for n in range(50)]
    people(settings, dict.fromkeys(users, FOREIGN))
    with started(settings, tmp_path) as server:
        body = until(server, 503, ROWS)
        assert WHAT_IT_SAYS in body["detail"]
        assert REMEDY in body["detail"]
        same_everywhere(server, "people", "foreign_version")
        for user in users:
            assert answer(server, user)["fallback"] == "store_down"
        unread = value(scraped(server), "freshet_people_unreadable_total", what="row")
        assert unread == len(users)
        assert total(scraped(server), "freshet_store_down_total") == len(users)
        said = server.log.read_text()
        assert (said.count(WHAT_IT_SAYS), said.count(REMEDY)) == (1, 1)

        people(settings, dict.fromkeys(users, OURS))
        until(server, 200, {})
        assert answer(server, "u1")["freshness"]["last_event_at"]
        assert "can be read again" in server.log.read_text()
        people(settings, {"u1": FOREIGN})
        assert answer(server, "u1")["fallback"] == "store_down"
        assert server.log.read_text().count(WHAT_IT_SAYS) == 2, "it is another time"


def test_one_row_among_others_takes_no_instance_out(settings: Settings, tmp_path: Path) -> None:
    people(settings, {**{f"u{n}": OURS for n in range(8)}, "odd": FOREIGN})
    with started(settings, tmp_path) as server:
        body = until(server, 200, ROWS)
        assert WHAT_IT_SAYS in body["degraded"][0]["detail"]
        assert answer(server, "odd")["fallback"] == "store_down"
        assert answer(server, "u1")["fallback"] != "store_down"
        same_everywhere(server, "people", "foreign_version")
        people(settings, {"odd": OURS})
        until(server, 200, {})


def test_a_row_that_comes_later_is_found_by_who_reads_it(
    settings: Settings, tmp_path: Path
) -> None:
    with started(settings, tmp_path) as server:
        until(server, 200, {})
        people(settings, {"late": FOREIGN})
        assert answer(server, "late")["fallback"] == "store_down"
        # at once: there is no other row to read
        assert server.ask("GET", "/health/ready").errors == [("people", "foreign_version")]
        people(settings, {f"u{n}": OURS for n in range(8)})
        until(server, 200, ROWS)


def test_a_generation_of_another_version_is_found_as_it_is_swapped_in(
    settings: Settings, tmp_path: Path
) -> None:
    users = [f"u{n}" for n in range(20)]
    people(settings, dict.fromkeys(users, OURS))
    people(settings, dict.fromkeys(users, FOREIGN), generation=1)
    with started(settings, tmp_path) as server, redis_client.connect(settings) as client:
        until(server, 200, {})
        client.set(PLAIN.live(), 1)
        until(server, 503, ROWS)
        client.set(PLAIN.live(), 0)
        until(server, 200, {})


@pytest.mark.parametrize(
    ("key", "what"),
    [
        (PLAIN.seen, "seen"),
        # kinds of the one above: the second look of each takes a second
        *(
            pytest.param(key, what, marks=pytest.mark.check)
            for key, what in (
                (PLAIN.preferences, "preferences"),
                (PLAIN.impressions, "impressions"),
                (PLAIN.vector, "vector"),
                (PLAIN.link, "links"),
            )
        ),
        (lambda partition, person: PLAIN.fence("people", partition), "fence"),
    ],
)
def test_every_other_unreadable_row_is_named(
    settings: Settings, tmp_path: Path, key: Any, what: str
) -> None:
    mine = where(settings, "u1")
    other = next(f"u{n}" for n in range(99) if where(settings, f"u{n}")[0] != mine[0])
    people(settings, {"u1": OURS, other: OURS})
    with started(settings, tmp_path) as server, redis_client.connect(settings) as client:
        until(server, 200, {})
        client.set(key(*mine), b"\xc1secret")
        for _ in range(3):
            assert answer(server, "u1")["fallback"] == "store_down"
        assert answer(server, other)["fallback"] != "store_down"
        body = until(server, 200, OTHERS)
        assert f"a person's {what} cannot be read" in body["degraded"][0]["detail"]
        assert value(scraped(server), "freshet_people_unreadable_total", what=what) == 3
        said = server.log.read_text()
        assert (said.count(f"a person's {what} "), said.count(REMEDY)) == (1, 1)
        assert "secret" not in said
        client.delete(key(*mine))
        until(server, 200, {})


def test_tables_of_another_version_are_no_silent_wait(settings: Settings, tmp_path: Path) -> None:
    with redis_client.connect(settings) as client:
        client.set(PLAIN.tables().meta, b"\xc1")
        with started(settings, tmp_path) as server:
            body = until(server, 503, {"tables": "unreadable"})
            assert "this version cannot read" in body["detail"]
            client.set(PLAIN.tables().meta, tables.ENCODER.encode(EMPTY_META))
            until(server, 200, {})
        said = server.log.read_text()
        assert said.count("tables: the store holds what this version cannot read") == 1
