"""A guest acts, logs in and goes on: the next read holds both, and everything counts once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from infra.apps.inspect.held import pseudonym_of, user_held
from infra.kafka import kafka_client
from infra.kafka.reader import Topics
from infra.local import services
from infra.settings import Settings
from infra.store import redis_client
from models.aggregates.arms import arm_key
from models.aggregates.tables import Tables
from models.experiments.assignment import assign
from schemas.control import Experiment, Variant
from schemas.keys import PLAIN
from schemas.state import facts, fences
from tests.flows.faults import Flow
from tests.support import worlds
from tests.support.http import Answer, serving
from tests.support.shops import ITEMS, LISTS, Shop

pytestmark = pytest.mark.on_cluster

HALVES = (Variant(name="a", share=0.5), Variant(name="b", share=0.5))


class Decision(NamedTuple):
    linked: bool
    why: str | None
    position: str | None


class Site(NamedTuple):
    shop: Shop
    relay: Flow

    def variant(self, who: str) -> str:
        [experiment] = self.shop.read(who)["served_by"]["experiments"]
        return str(experiment["variant"])

    def act(self, who: dict[str, str], item: str, what: str, slate: str = "") -> str:
        event = {**who, "item_id": item, "action": what, **({"slate_id": slate} if slate else {})}
        answer = self.shop.server.ask("POST", "/v1/events", event)
        assert answer.status == 202, answer.body
        return str(answer.json["positions"][0])

    def link(self, user: str, anonymous: str) -> tuple[str, str]:
        """Links both ids and answers the positions of the link and of the user's mark."""
        receipt = self.shop.server.ask(
            "POST", f"/v1/users/{user}:link", {"anonymous_id": anonymous}
        ).json
        others = [at for at in receipt["positions"] if at != receipt["position"]]
        return receipt["position"], others[0] if others else receipt["positions"][0]

    def decision(self, user: str, verb: str, anonymous: str, key: str) -> Decision:
        """The verdict of a link or unlink. A request that was pending is sent again under its key."""
        answers: list[Answer] = []

        def ask() -> bool:
            answers[:] = [
                self.shop.server.ask(
                    "POST",
                    f"/v1/users/{user}:{verb}",
                    {"anonymous_id": anonymous},
                    {"Idempotency-Key": key},
                )
            ]
            assert answers[0].json["pending"] is (answers[0].status == 202)
            return answers[0].status == 200

        services.wait_until(ask, 20, "the fold does not decide")
        found = answers[0].json
        return Decision(found["linked"], found["why"], found["position"])

    def held(self, user: str, anonymous: bool = False) -> dict[str, Any]:
        settings = self.shop.server.settings
        return user_held(settings, pseudonym_of(settings, user, anonymous), 0)

    def tables(self) -> Tables:
        """The sums of all folded records."""
        made = Tables(4)
        for p in range(4):
            for _, fields in self.shop.redis.xrange(PLAIN.deltas(p)):
                made.apply(p, facts.decode(fields[facts.FIELD]))
        return made

    def purchases(self) -> int:
        """Purchases in euros, less those that were taken back."""
        return self.tables().money.publish().get("EUR", (0, 0, 0))[0]

    def clicks(self, item: str) -> int:
        return self.tables().arms.get(arm_key("home", item)).clicked


@pytest.fixture(scope="module")
def site(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("links")
    settings = Settings(kafka_bootstrap=broker, redis_url=redis_url, data_dir=home / "data", port=0)
    kafka_client.ensure_topics(settings)
    with redis_client.connect(settings) as client:
        people, relay = (Flow(settings, name, home / "log") for name in ("people", "relay"))
        try:
            with serving(settings, home / "server") as server:
                shop = Shop(server, client)
                for at, item in enumerate(ITEMS, 1):
                    shop.put(item, at)
                shop.publish(1, LISTS, worlds.popularity(ITEMS, 7))
                shop.control("experiment:x", Experiment(placement="home", variants=HALVES))
                shop.until("/v1/status", lambda body: body["items"] == len(ITEMS))
                shop.until(
                    "/v1/recommendations?anonymous_id=nobody",
                    lambda body: body.get("items") and body["served_by"]["experiments"],
                )
                yield Site(shop, relay)
        finally:
            for flow in (people, relay):
                flow.kill()


def ids(site: Site, start: str) -> tuple[str, str]:
    """An anonymous id and a user whose own ids are in different variants."""
    anonymous = f"{start}-visitor"
    mine = site.variant(f"anonymous_id={anonymous}")
    for n in range(50):
        user = f"{start}-user{n}"
        if own_variant(site, user) != mine:
            return anonymous, user
    raise AssertionError("a coin fell the same way fifty times")


def own_variant(site: Site, user: str) -> str:
    name, _ = site.shop.where(user)
    found = assign("x", Experiment(placement="home", variants=HALVES), name)  # type: ignore[arg-type]
    assert found is not None
    return found.name


def test_a_guest_who_becomes_a_user_keeps_what_they_did(site: Site) -> None:
    anonymous, user = ids(site, "one")
    who, them = {"anonymous_id": anonymous}, {"user_id": user}
    first = site.shop.read(f"anonymous_id={anonymous}&count=5")
    slate, items = first["slate_id"], [item["item_id"] for item in first["items"]]
    variant = first["served_by"]["experiments"][0]["variant"]
    at = site.act(who, items[0], "click", slate)
    body = site.shop.read(f"anonymous_id={anonymous}&after={at}&max_wait_ms=2000")
    seen_at = body["freshness"]["last_event_at"]
    services.wait_until(lambda: site.clicks(items[0]) == 1, 20, "the click does not count")

    site.relay.kill()  # so that it stays pending for a while
    _, mark = site.link(user, anonymous)
    body = site.shop.read(f"user_id={user}&after={mark}&max_wait_ms=2000")
    assert body["freshness"]["merge_pending"] is True
    assert body["freshness"]["last_event_at"] is None
    assert body["served_by"]["experiments"][0]["variant"] == variant != own_variant(site, user)
    # the user is quicker than the outbox
    site.act(them, items[1], "click", slate)

    site.relay.start()
    path = f"/v1/recommendations?user_id={user}"
    body = site.shop.until(path, lambda body: not body["freshness"]["merge_pending"])
    assert body["freshness"]["last_event_at"] >= seen_at
    assert body["served_by"]["experiments"][0]["variant"] == variant
    # once more under either id, then something new under the old one
    site.act(who, items[1], "click", slate)
    site.act(them, items[0], "click", slate)
    site.act(who, items[2], "click", slate)
    services.wait_until(lambda: site.clicks(items[2]) == 1, 20, "the click does not count")
    services.wait_until(lambda: not lagging(site), 20, "the flows do not catch up")
    assert [site.clicks(item) for item in items[:4]] == [1, 1, 1, 0]
    [row] = [
        row
        for row in site.tables().moments.of("x", 1)
        if row["sums"][2] and row["squares"][2, 2] >= 9
    ]
    assert row["sums"][2] == np.sqrt(row["squares"][2, 2]) == 3  # of one unit, the visitor's


def lagging(site: Site) -> bool:
    """Whether records of `events` are not folded yet, or wait in an outbox."""
    topics = Topics(site.shop.server.settings)
    held = [site.shop.redis.get(PLAIN.fence("people", p)) for p in range(4)]
    offsets = [fences.decode(it).offset if it else 0 for it in held]
    return any(site.shop.redis.xlen(PLAIN.outbox(p)) for p in range(4)) or offsets != [
        topics.bounds("events", p)[1] for p in range(4)
    ]


def test_who_was_served_under_their_own_id_keeps_their_variant(site: Site) -> None:
    anonymous, user = ids(site, "two")
    own = own_variant(site, user)
    first = site.shop.read(f"user_id={user}&count=3")
    item = first["items"][0]["item_id"]
    before = site.clicks(item)
    at = site.act({"user_id": user}, item, "click", first["slate_id"])
    site.shop.read(f"user_id={user}&after={at}&max_wait_ms=2000")
    services.wait_until(lambda: site.clicks(item) > before, 20, "the slate does not come")
    _, mark = site.link(user, anonymous)
    body = site.shop.read(f"user_id={user}&after={mark}&max_wait_ms=2000")
    assert body["served_by"]["experiments"][0]["variant"] == own


def test_the_second_of_two_links_changes_nothing_and_is_not_pending_for_ever(site: Site) -> None:
    anonymous, user = ids(site, "three")
    site.link("three-first", anonymous)
    _, mark = site.link(user, anonymous)
    site.shop.read(f"user_id={user}&after={mark}&max_wait_ms=2000")
    path = f"/v1/recommendations?user_id={user}"
    body = site.shop.until(path, lambda body: not body["freshness"]["merge_pending"])
    assert body["freshness"]["last_event_at"] is None


def test_a_log_out_ends_a_link_and_the_next_who_logs_in_takes_only_what_follows(
    site: Site,
) -> None:
    device, one, two = "out-device", "out-one", "out-two"
    items = [item.item_id for item in ITEMS[:3]]
    site.act({"anonymous_id": device}, items[0], "click")
    assert site.decision(one, "link", device, "k1")[:2] == (True, None)
    assert site.decision(one, "link", device, "k2")[:2] == (True, "already")
    assert site.decision(two, "link", device, "k3")[:2] == (False, "linked_elsewhere")
    assert site.decision(two, "unlink", device, "k4")[:2] == (False, "linked_elsewhere")
    site.act({"anonymous_id": device}, items[1], "click")
    end = site.decision(one, "unlink", device, "k5")
    assert end[:2] == (False, "unlinked")
    assert site.decision(one, "unlink", device, "k6")[:2] == (False, "not_linked")

    body = site.shop.read(f"anonymous_id={device}&after={end.position}&max_wait_ms=2000")
    assert body["freshness"]["last_event_at"] is None
    assert not body["freshness"]["stale"]
    assert not site.held(device, anonymous=True)["known"]
    site.act({"anonymous_id": device}, items[2], "click")
    assert site.decision(two, "link", device, "k7")[:2] == (True, None)
    for user, expected in ((one, items[:2]), (two, items[2:])):
        path = f"/v1/recommendations?user_id={user}"
        # not pending is also what a link says that is not folded yet
        site.shop.until(
            path,
            lambda body: (
                body["freshness"]["last_event_at"] and not body["freshness"]["merge_pending"]
            ),
        )
        assert [it["item_id"] for it in site.held(user)["recent"]] == expected[::-1]
    assert site.held(device, anonymous=True)["linked_to"] == site.held(two)["pseudonym"]


def test_the_id_of_a_user_is_no_anonymous_id_of_another(site: Site) -> None:
    at = site.act({"user_id": "named"}, ITEMS[0].item_id, "view")
    site.shop.read(f"user_id=named&after={at}&max_wait_ms=2000")
    services.wait_until(lambda: site.held("named")["known"], 20, "the view is not folded")
    decided = site.decision("another", "link", "named", "k8")
    assert decided == (False, "is_a_user", None)
    assert not site.held("named", anonymous=True)["linked_to"]


def test_an_unlink_without_a_link_stores_nothing(site: Site) -> None:
    name = site.held("stranger", anonymous=True)["pseudonym"]
    assert site.decision("out-one", "unlink", "stranger", "k9")[:2] == (False, "not_linked")
    assert not list(site.shop.redis.scan_iter(match=f"*:{name}"))


def test_an_order_that_page_and_server_sent_is_one_purchase_after_the_link(site: Site) -> None:
    """Each sends it under the id that it has; the server sends another one after the link."""
    device, user = "order-device", "order-user"
    items = [item.item_id for item in ITEMS[:2]]

    def buy(who: dict[str, str], number: int) -> None:
        order = {"event_id": f"ord-{number}", "item_id": items[number], "action": "purchase"}
        paid = {"value": 19.99, "currency": "EUR"}
        answer = site.shop.server.ask("POST", "/v1/events", {**who, **order, **paid})
        assert answer.status == 202, answer.body

    before = site.purchases()
    buy({"anonymous_id": device}, 0)
    buy({"user_id": user}, 0)
    assert site.decision(user, "link", device, "k10")[:2] == (True, None)
    buy({"anonymous_id": device}, 1)
    buy({"user_id": user}, 1)
    services.wait_until(lambda: not lagging(site), 20, "the flows do not catch up")
    held = site.held(user)
    assert held["counts"] == {"purchase": 2}
    assert {it["item_id"] for it in held["recent"]} == set(items)
    assert site.purchases() - before == 2
