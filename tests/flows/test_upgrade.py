"""`people` of this version on the state of the version before: it goes on from there, without a rebuild."""

from __future__ import annotations

import pytest

from flows.people.fold import READABLE, VERSION
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from models.features.registry import ROW, read_rows
from models.outcomes import impressions, open_slates
from schemas.events import Event
from schemas.keys import IMPRESSIONS, OPEN_SLATES, PLAIN
from schemas.keys import ROW as ROWS
from schemas.state import fences
from tests.flows.faults import wrong
from tests.laws.world import T0, action, served
from tests.support.running import fold_people, send_events
from tests.unit.models.test_layout import as_version_3


def records(start: int) -> list[Event]:
    made: list[Event] = []
    for n in range(start, start + 40):
        who, slate, at = n % 7, f"s{n}", T0 + n * 1000
        made.append(served(slate, [f"i{n % 5}", f"i{n % 3 + 5}"], who, at))
        made.append(action(n, who, f"i{n % 5}", "click", slate_id=slate))
        more = {"amount": 900, "currency": "EUR", "negative": n % 4 == 0}
        made.append(action(n + 1000, who, f"i{n % 5}", "purchase", at=at, **more))
    return made


def store_as_version_5(client: Client) -> int:
    """Replaces what is stored by what the version before stored. Returns how many values that are."""
    replaced = 0
    for key in list(client.scan_iter()):
        parsed = PLAIN.parse(key)
        kind = parsed.kind if parsed else b""
        if kind not in (ROWS, OPEN_SLATES, IMPRESSIONS, b"f"):
            continue
        blob = client.get(key)
        if kind == ROWS:
            (row,) = read_rows([blob])
            empty = max(0, ROW["ring"].shape[0] - int(row["n"]))
            blob = b"\2\0" + row.tobytes()[2 : ROW.itemsize - empty * ROW["ring"].base.itemsize]
        elif kind == OPEN_SLATES:
            blob = as_version_3(open_slates.decode(blob))
        elif kind == IMPRESSIONS:
            blob = impressions.read(blob).astype(impressions.IMPRESSION).tobytes()
        else:
            fence = fences.decode(blob)
            fence.version = 5
            blob = fences.encode(fence)
        client.set(key, blob)
        replaced += 1
    return replaced


@pytest.mark.skipif(5 not in READABLE, reason="no worker goes on from version 5")
def test_the_flow_goes_on_from_the_version_before(settings: Settings) -> None:
    send_events(settings, records(0))
    fold_people(settings)
    with redis_client.connect(settings) as client:
        assert store_as_version_5(client) > 20
        found = wrong(settings)
        assert found == dict.fromkeys(found, 0)
        send_events(settings, records(40))
        fold_people(settings)
        held = [client.get(PLAIN.fence("people", p)) for p in range(settings.partitions)]
        assert {fences.decode(it).version for it in held if it} == {VERSION}
    found = wrong(settings)
    assert found == dict.fromkeys(found, 0)
