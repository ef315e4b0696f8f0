"""The crowd: each event is a pure function of (seed, sender, number), so a check knows from its id
alone what it must say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import xxhash

ITEMS: Final = 300
PEOPLE: Final = 150
"""Of each sender's own; what one of them does is sent by that sender alone, one request after the other."""
SHARED: Final = 100
"""People whose events every sender sends, in no order."""
ACTIONS: Final = ("view",) * 6 + ("click",) * 2 + ("purchase", "hide")
DAY_MS: Final = 86_400_000


class Named(NamedTuple):
    sender: str
    number: int


def name(sender: str, number: int) -> str:
    """The id of an event."""
    return f"{sender}-{number}"


def named(event_id: str) -> Named | None:
    """Sender and number of an event id, or of the one that an Idempotency-Key gave; None for an id of another
    program."""
    _, kind, key, _ = event_id.split("\0") if event_id.count("\0") == 3 else ("", "", "", "")
    sender, _, number = (key if kind == "key" else event_id).rpartition("-")
    return Named(sender, int(number)) if sender and number.isdigit() else None


def item(number: int) -> dict[str, Any]:
    """As POST /v1/items takes it."""
    return {"item_id": f"i{number}", "title": f"Item {number}", "category": f"c{number % 12}"}


class Crowd:
    """`began`: Unix time in ms; what people did is up to a day older than that."""

    def __init__(self, seed: int, began: int) -> None:
        self.seed, self.began = seed, began

    def event(self, sender: str, number: int) -> dict[str, Any]:
        """As POST /v1/events takes it."""
        dice = self._dice(sender, number)
        who = self._person(sender, dice)
        dice //= PEOPLE * SHARED * 100
        back = dice % 3 * 400 * (dice // 3 % 50)
        event = {
            "event_id": name(sender, number),
            **who,
            "item_id": f"i{int(ITEMS * (dice // 150 % 997 / 997) ** 2)}",
            "action": ACTIONS[dice // 150_000 % len(ACTIONS)],
            "occurred_at": _text(self.began - back),
        }
        if dice % 2:
            event["session_id"] = f"s-{sender}-{number // 500}"
        if self.is_refused(sender, number):
            event["action"] = "bark"
        return event

    def is_refused(self, sender: str, number: int) -> bool:
        """Whether the edge must reject it."""
        return xxhash.xxh3_64_intdigest(f"r {self.seed} {sender} {number}".encode()) % 400 == 0

    def preferences(self, sender: str, number: int) -> tuple[str, dict[str, Any]]:
        """(user id, body of PUT /v1/users/{user_id}/preferences)."""
        dice = self._dice(sender, number)
        body = {
            "personalized": dice % 10 != 0,
            "liked_categories": [f"c{dice // 10 % 12}"],
            "hidden_items": [f"i{dice // 120 % ITEMS}"],
        }
        return f"{sender}-u{dice // 40_000 % PEOPLE}", body

    def link(self, sender: str, number: int) -> tuple[str, dict[str, Any]]:
        """(user id, body of POST /v1/users/{user_id}:link): of an anonymous id that acts, too."""
        dice = self._dice(sender, number)
        anonymous = dice % (PEOPLE // 5)
        return f"{sender}-u{dice // 1000 % PEOPLE}", {"anonymous_id": f"{sender}-a{anonymous}"}

    def poison(self, number: int) -> bytes:
        """The value of a record that no fold can take."""
        return b'{"kind":"action","event_id":"%b",' % name("poison", number).encode()

    def _dice(self, sender: str, number: int) -> int:
        return xxhash.xxh3_128_intdigest(f"{self.seed} {sender} {number}".encode())

    def _person(self, sender: str, dice: int) -> dict[str, str]:
        kind, of_own, of_all = dice % 100, dice // 100 % PEOPLE, dice // (100 * PEOPLE) % SHARED
        if kind < 20:
            return {"user_id": f"shared-u{of_all}"}
        if kind < 32:
            return {"anonymous_id": f"{sender}-a{of_own % (PEOPLE // 5)}"}
        return {"user_id": f"{sender}-u{of_own}"}


def _text(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds")
