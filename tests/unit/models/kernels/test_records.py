"""Columns of records: one hand-worked case."""

from __future__ import annotations

from typing import Final

import xxhash

from models import records
from models.dedupe import identities
from schemas import events
from schemas.actions import CODE
from schemas.alphabet import Pseudonym
from schemas.events import Action, Preferences, Source
from schemas.identity import category_hash, item_hash
from schemas.state.facts import IMPORTED, UNKNOWN, currency_code

PERSON: Final = Pseudonym("0123456789abcdef" * 2)


def test_columns_of_four_records() -> None:
    purchase = Action(
        event_id="o1",
        person=PERSON,
        item_id="alien",
        action="purchase",
        occurred_at=2_000,
        received_at=9_000,
        category="horror",
        session_id="s",
        slate_id="l",
        negative=True,
        amount=2**60,
        currency="EUR",
        quantity=2,
        group="films",
        source=Source(mode="import"),
    )
    preferences = Preferences(event_id="p", person=PERSON, received_at=9_000)
    values = [events.encode(purchase), b"{", None, events.encode(preferences)]
    found = records.decode(values, [5_000, 5_001, 5_002, 5_003])
    assert found.kind.tolist() == [0, records.UNDECODED, records.UNDECODED, 1]
    names, ids = identities([purchase, preferences])
    assert found.name.tolist() == [names[0], 0, 0, names[1]]
    assert found.id.tolist() == [ids[0], 0, 0, ids[1]]
    for seed, column in enumerate((found.person, found.person2)):
        name = xxhash.xxh3_64_intdigest(PERSON.encode(), seed)
        assert column.tolist() == [name, 0, 0, name]
    first = {
        "item": item_hash("alien"),
        "category": category_hash("horror"),
        "session": xxhash.xxh3_64_intdigest(b"s"),
        "slate": xxhash.xxh3_64_intdigest(b"l"),
        "occurred": 2_000,
        "received": 5_000,
        "action": CODE["refund"],
        "flags": UNKNOWN | IMPORTED,
        "group": 1,
        "amount": records.MAX_AMOUNT,
        "currency": currency_code("EUR"),
        "quantity": 2,
    }
    assert {name: getattr(found, name).tolist() for name in first} == {
        name: [value, 0, 0, 0] for name, value in first.items()
    }
    assert [found.person_text(i) for i in (0, 3)] == [PERSON, PERSON]
    kept = found.take(found.kind != records.UNDECODED)
    assert (len(kept), kept.kind.tolist()) == (2, [0, 1])
    bounded = kept.event(0)
    assert (bounded.received_at, bounded.person) == (5_000, PERSON)
