"""A shop whose webhook names no slate, on a whole system: conversions by attribution, refunds, money."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from flows.verify.run import verify
from infra.lake.log import open_log
from infra.local.services import wait_until
from infra.local.system import System
from tests.system.test_rebuild import caught_up

pytestmark = [pytest.mark.check, pytest.mark.timeout(180)]
HALF = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}]
EXPERIMENT = {"expected_version": 0, "experiment": {"placement": "home", "variants": HALF}}


def ask(system: System, method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{system.url}{path}", data, method=method)
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def slate(system: System, user: str) -> tuple[str, str]:
    """A slate of this person, and its first item."""
    found = ask(system, "GET", f"/v1/recommendations?user_id={user}&placement=home&count=3")
    return found["slate_id"], found["items"][0]["item_id"]


def post(system: System, user: str, action: str, item: str, **more: Any) -> None:
    event = {"user_id": user, "item_id": item, "action": action, **more}
    assert ask(system, "POST", "/v1/events", event)["accepted"] == 1


def counted(system: System) -> dict[str, int]:
    found = ask(system, "GET", "/v1/experiments/shop/metrics")["variants"]
    total = {"converted": sum(it["counts"]["converted"] for it in found)}
    for how in ("direct", "last_click", "last_view"):
        total[how] = sum(it["attribution"][how] for it in found)
    return total


def money(system: System) -> Any:
    return ask(system, "GET", "/v1/status")["money"]


def test_an_order_webhook_converts_what_was_clicked_or_seen_and_a_refund_takes_it_back(
    system: System,
) -> None:
    items = [{"item_id": f"cup{n}", "title": f"Cup {n}", "category": "cups"} for n in range(6)]
    for each in items:
        ask(system, "PUT", f"/v1/items/{each['item_id']}", each)
    ask(system, "PUT", "/v1/experiments/shop", EXPERIMENT)
    wait_until(lambda: ask(system, "GET", "/v1/status")["items"] >= 6, 30, "no items")
    wait_until(lambda: bool(ask(system, "GET", "/v1/experiments")["experiments"]), 30, "no shop")
    order: dict[str, Any] = {"value": 19.0, "currency": "EUR"}
    for user, action in (("buyer", "click"), ("viewer", "display"), ("direct", "click")):
        name, item = slate(system, user)
        post(system, user, action, item, slate_id=name)
        named: dict[str, Any] = {"slate_id": name} if user == "direct" else {}
        post(system, user, "purchase", item, event_id=f"o-{user}", **order, **named)
        if user == "buyer":
            bought = item
    expected = {"converted": 3, "direct": 1, "last_click": 1, "last_view": 1}
    wait_until(lambda: counted(system) == expected, 30, "conversions are missing")
    post(system, "viewer", "purchase", "cup5", value=5, currency="USD", quantity=2)
    sums = {"EUR": {"purchases": 3, "quantity": 3, "amount": 5700},
            "USD": {"purchases": 1, "quantity": 2, "amount": 500}}  # fmt: skip
    wait_until(lambda: money(system) == sums, 30, "money is missing")
    post(system, "buyer", "purchase", bought, value=-19.0, currency="EUR")
    post(system, "stranger", "purchase", bought, value=-19.0, currency="EUR")
    expected |= {"converted": 2, "last_click": 0}
    sums["EUR"] = {"purchases": 2, "quantity": 2, "amount": 3800}
    wait_until(lambda: (counted(system), money(system)) == (expected, sums), 30, "no refund")
    caught_up(system.settings)
    report = verify(system.settings, open_log(system.settings))
    assert report.mismatches == []
    assert report.people_checked >= 4
