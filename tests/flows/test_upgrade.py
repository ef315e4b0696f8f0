"""`people` of this version on the state of the version before: it goes on from there, without a rebuild."""

from __future__ import annotations

import msgspec
import pytest

from flows.people.fold import READABLE, VERSION
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from schemas.events import Event
from schemas.keys import PLAIN
from schemas.state import fences
from tests.flows.faults import wrong
from tests.laws.world import T0, action, served
from tests.support.running import fold_people, send_events


def of_strangers(start: int) -> list[Event]:
    """Slates of ids that do nothing: one in both halves, one in each alone, one that clicks in the second."""
    made: list[Event] = [
        served(f"x{start}-{who}", [f"i{who % 3}", "i9"], who, T0 + (start + who) * 1000)
        for who in (70, 71 + bool(start), 73)
    ]
    return made if not start else [*made, action(1073, 73, "i1", "click", slate_id="x0-73")]


def records(start: int) -> list[Event]:
    made: list[Event] = []
    for n in range(start, start + 40):
        who, slate, at = n % 7, f"s{n}", T0 + n * 1000
        made.append(served(slate, [f"i{n % 5}", f"i{n % 3 + 5}"], who, at))
        made.append(action(n, who, f"i{n % 5}", "click", slate_id=slate))
        more = {"amount": 900, "currency": "EUR", "negative": n % 4 == 0}
        made.append(action(n + 1000, who, f"i{n % 5}", "purchase", at=at, **more))
    return made


def store_as_version_6(client: Client, partitions: int) -> None:
    """Marks what a fold without a ring of strangers stored as of that version."""
    for key in [PLAIN.fence("people", p) for p in range(partitions)]:
        fence = fences.decode(client.get(key))
        fence.version = 6
        client.set(key, fences.encode(fence))


@pytest.mark.skipif(6 not in READABLE, reason="no worker goes on from version 6")
def test_the_flow_goes_on_from_the_version_before(settings: Settings) -> None:
    send_events(settings, [*records(0), *of_strangers(0)])
    fold_people(msgspec.structs.replace(settings, strangers=0))
    with redis_client.connect(settings) as client:
        assert not list(client.scan_iter("st:*"))
        store_as_version_6(client, settings.partitions)
        found = wrong(settings)
        assert found == dict.fromkeys(found, 0)
        send_events(settings, [*records(40), *of_strangers(40)])
        fold_people(settings)
        held = [client.get(PLAIN.fence("people", p)) for p in range(settings.partitions)]
        assert {fences.decode(it).version for it in held if it} == {VERSION}
        assert len(list(client.scan_iter("st:*:*"))) == 1  # the others have keys of people
    found = wrong(settings)
    assert found == dict.fromkeys(found, 0)
