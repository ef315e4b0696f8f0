"""PATCH creates nothing: 404 where it is certain that there is no item, and never for one that was put
before, through whichever process. On a whole system, with a second serving process beside its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from click.testing import CliRunner

from infra.apps.inspect.held import item_held
from infra.cli.main import cli
from infra.local import services
from infra.local.system import System
from infra.settings import signing_key
from infra.store import redis_client
from serving.read.query import MAX_WAIT_MS
from tests.support.http import Answer, Server, ask, serving
from tests.support.whole import whole_only

ITEMS = 60
CALLERS = 20
PATCHED = "patch_of_unknown_item"


@pytest.fixture(scope="module")
def second(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A serving process of the same installation, with a folder of its own."""
    home = tmp_path_factory.mktemp("second")
    number, key = signing_key(system.settings)
    settings = msgspec.structs.replace(
        system.settings,
        port=0,
        metrics_port=0,
        data_dir=home / "data",
        pseudonym_keys=f"{number}:{key.hex()}",
    )
    with serving(settings, home / "log") as server:
        yield server


@contextlib.contextmanager
def connected(system: System) -> Iterator[HTTPConnection]:
    address = urlsplit(system.url)
    assert address.hostname is not None
    connection = HTTPConnection(address.hostname, address.port, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def of(system: System, method: str, path: str, body: Any = None) -> Answer:
    with connected(system) as connection:
        return ask(connection, method, path, body)


def await_item(system: System, item_id: str, condition: Any) -> dict[str, Any]:
    """The item as it satisfies `condition`: another worker may be behind the one that said so."""
    found: list[Any] = []

    def holds() -> bool:
        answer = of(system, "GET", f"/v1/items/{item_id}")
        found[:] = [answer.json]
        return bool(condition(None if answer.status == 404 else answer.json))

    services.wait_until(holds, 30, f"the item {item_id} does not come to what it is to be")
    return dict(found[0])


def await_popular(system: System, category: str, item_id: str) -> None:
    def shows() -> bool:
        shown = of(system, "GET", f"/v1/popular?category={category}").json["items"]
        return item_id in {item["item_id"] for item in shown}

    services.wait_until(shows, 30, f"{item_id} is in no list of {category}")


def tallied(system: System) -> int:
    with redis_client.connect(system.settings) as client:
        keyspace = system.settings.keyspace
        held = [
            client.hget(keyspace.item_tallies(p), PATCHED)
            for p in range(system.settings.partitions)
        ]
    return sum(int(it) for it in held if isinstance(it, bytes))


def test_a_late_patch_of_a_deleted_item_brings_nothing_back(system: System) -> None:
    """field/07: a stock feed that does not know yet that the product is gone."""
    assert of(system, "PUT", "/v1/items/tent", {"title": "Tent"}).status == 202
    await_item(system, "tent", lambda item: item and item["indexed"])
    assert of(system, "DELETE", "/v1/items/tent").status == 202

    def is_gone() -> bool:
        return of(system, "PATCH", "/v1/items/tent", {"attributes": {"stock": 0}}).status == 404

    services.wait_until(is_gone, 30, "the deleted item can be patched")
    answer = of(system, "PATCH", "/v1/items/tent", {"attributes": {"stock": 0}})
    assert (answer.status, answer.json["code"]) == (404, "unknown_item")
    assert of(system, "GET", "/v1/items/tent").status == 404
    shown = of(system, "GET", "/v1/recommendations?user_id=stranger&count=50").json
    assert "tent" not in {item["item_id"] for item in shown["items"]}


def test_a_patch_that_creates_says_so(system: System) -> None:
    path = "/v1/items/made"
    services.wait_until(
        lambda: of(system, "PATCH", path, {"title": "M"}).status == 404, 30, "it is no 404"
    )
    for query, code in (
        ("yes", "wrong_type"),
        ("1", "wrong_type"),
        ("true&create=true", "repeated"),
    ):
        answer = of(system, "PATCH", f"{path}?create={query}", {"title": "M"})
        assert (answer.status, answer.errors) == (422, [("create", code)])
    for query in ("create=false", "create="):
        assert of(system, "PATCH", f"{path}?{query}", {"title": "M"}).status == 404
    assert of(system, "PATCH", f"{path}?create=true", {"title": "M"}).status == 202
    assert await_item(system, "made", lambda item: item)["title"] == "M"
    assert of(system, "PATCH", path, {"text": "t", "title": None}).status == 202
    held = await_item(system, "made", lambda item: item.get("text") and item["indexed"])
    assert held == {"item_id": "made", "title": "M", "text": "t", "indexed": True}


def test_a_patch_after_a_put_through_another_process_is_taken(
    system: System, second: Server
) -> None:
    """At once, a hundred times: neither process's table can know of the put."""
    for n in range(100):
        path = f"/v1/items/two{n}"
        put, patch = {"title": f"T{n}"}, {"attributes": {"stock": n}}
        if n % 2:
            assert of(system, "PUT", path, put).status == 202
            answer = second.ask("PATCH", path, patch)
        else:
            assert second.ask("PUT", path, put).status == 202
            answer = of(system, "PATCH", path, patch)
        assert answer.status == 202, answer.body
    before = tallied(system)
    for n in range(100):
        held = await_item(system, f"two{n}", lambda item: item and item.get("attributes"))
        assert (held["title"], held["attributes"]) == (f"T{n}", {"stock": n})
    assert tallied(system) == before


def test_what_was_taken_and_found_no_item_is_counted(system: System, second: Server) -> None:
    before, taken = tallied(system), 0
    for n in range(ITEMS):
        path = f"/v1/items/gone{n}"
        assert of(system, "PUT", path, {"title": "G"}).status == 202
        assert second.ask("DELETE", path).status == 202
        answers = [
            of(system, "PATCH", path, {"title": "late"}),
            second.ask("PATCH", path, {"title": "late"}),
        ]
        assert {answer.status for answer in answers} <= {202, 404}
        taken += sum(answer.status == 202 for answer in answers)
    services.wait_until(
        lambda: tallied(system) == before + taken, 30, "not all that was dropped is counted"
    )
    for n in range(ITEMS):
        assert of(system, "GET", f"/v1/items/gone{n}").status == 404
        # a patch that was dropped leaves nothing behind in the stream of changes
        assert of(system, "PATCH", f"/v1/items/gone{n}", {"title": "late"}).status == 404
    assert taken > 0

    def said() -> bool:
        status = of(system, "GET", "/v1/status").json
        return bool((status["not_counted"] or {}).get(PATCHED) == tallied(system))

    services.wait_until(said, 30, "the status does not say what was dropped")
    shown = CliRunner().invoke(cli, ["status", "--data-dir", str(system.settings.data_dir)])
    assert f"not counted: {tallied(system)} records ({PATCHED})" in shown.output, shown.output


def test_null_blanks_lists_and_dates_as_shops_have_them(system: System) -> None:
    body = {
        "title": "The Wizard of Oz",
        "text": None,
        "tags": ["", None, " musical "],
        "categories": [" sale", "film"],
        "category": None,
        "attributes": {"sizes": ["s", "m"], "year": 1939},
        "published_at": "1939-08-15",
        "expires_at": "9999-12-31",
    }
    answer = of(system, "PUT", "/v1/items/oz", body)
    assert (answer.status, answer.json["dropped"]) == (
        202,
        [{"field": "attributes.sizes", "code": "wrong_type"}],
    )
    batch = of(
        system, "POST", "/v1/items", {"items": [{"item_id": "k"}, {"item_id": "oz", **body}]}
    )
    assert batch.json["dropped"] == [
        {"index": 1, "field": "attributes.sizes", "code": "wrong_type"}
    ]
    clean = of(system, "PUT", "/v1/items/plain", {"title": "P", "attributes": {"a": 1}})
    assert "dropped" not in clean.json
    held = await_item(system, "oz", lambda item: item and item["indexed"])
    assert held == {
        "item_id": "oz",
        "title": "The Wizard of Oz",
        "tags": ["musical"],
        "category": "sale",
        "categories": ["sale", "film"],
        "attributes": {"year": 1939},
        "published_at": "1939-08-15T00:00:00.000Z",
        "expires_at": "9999-12-31T00:00:00.000Z",
        "indexed": True,
    }
    inspected = item_held(system.settings, "oz", 0)["item"]
    assert inspected == {name: value for name, value in held.items() if name != "indexed"}
    for category in ("film", "sale", "%20sale"):
        await_popular(system, category, "oz")
    # field/08: the categories are replaced, so is the primary one
    assert of(system, "PATCH", "/v1/items/oz", {"categories": ["film"]}).status == 202
    held = await_item(system, "oz", lambda item: item["categories"] == ["film"])
    assert held["category"] == "film"

    def is_gone() -> bool:
        shown = of(system, "GET", "/v1/popular?category=sale").json["items"]
        return "oz" not in {item["item_id"] for item in shown}

    services.wait_until(is_gone, 30, "it is still in the category that it left")
    row = json.dumps({"user_id": "u", "category": "film"}).encode()
    shown = of(system, "POST", "/v1/recommendations", row).json["items"]
    assert "oz" in {item["item_id"] for item in shown}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "times", [200, pytest.param(10_000, marks=[pytest.mark.check, whole_only])]
)
def test_what_one_process_acknowledged_the_other_reads(
    system: System, second: Server, times: int
) -> None:
    """Each write is read with its position, through the process that did not take it. A stale answer is
    right only where the fold took longer than the read may wait."""

    def write_and_read(caller: int) -> None:
        with connected(system) as one, contextlib.closing(second.connect()) as other:
            for n in range(times // CALLERS):
                person = f"reader-{caller}-{n % 5}"
                event = {"user_id": person, "item_id": "tent", "action": "view"}
                writer, reader = (one, other) if n % 2 else (other, one)
                written = ask(writer, "POST", "/v1/events", event)
                assert written.status == 202, written.body
                [position] = written.json["positions"]
                query = f"user_id={person}&count=1&after={position}&max_wait_ms={MAX_WAIT_MS}"
                waited_ms = MAX_WAIT_MS
                while waited_ms >= MAX_WAIT_MS:
                    read = ask(reader, "GET", f"/v1/recommendations?{query}")
                    assert read.status == 200, read.body
                    stale, waited_ms = (read.json["freshness"][it] for it in ("stale", "waited_ms"))
                assert not stale, position

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(write_and_read, range(CALLERS)))
