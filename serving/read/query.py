"""The query string of a read: parsed once, strictly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from schemas import times
from schemas.alphabet import Millis, Position
from schemas.identity import check_id, check_item_id, check_text
from schemas.reject import Rejected
from schemas.state.tables import WINDOWS
from serving.decide.results import Explain
from serving.http.parameters import pairs
from serving.read import cursor
from serving.state.spending import Spending

MAX_COUNT: Final = 100
MAX_WAIT_MS: Final = 5000
MAX_EXCLUDED_IDS: Final = 500
CURSOR_SCHEMA: Final = {
    "type": "string",
    # base64url of the version and 4 bytes an item
    "pattern": "^A[Q-Za-f]([A-Za-z0-9_-]{16})*(={0,2}|[A-Za-z0-9_-]{5}=?|[A-Za-z0-9_-]{10})$",
    "maxLength": cursor.MAX_LENGTH,
    "description": "the next_cursor of the page before, unchanged",
}
POSITION_SCHEMA: Final = {
    "type": "string",
    "pattern": "^[0-9]+:[0-9]+$",
    "maxLength": 32,
    "description": "a position that a write answered, such as 3:1042",
}
EXPLAIN: Final = ("none", "reason", "full")
INSTEAD: Final = "Send what is longer as the body of POST /v1/recommendations."
"""What the problem of a query or a request line that is too long says."""
_IDS: Final = frozenset({"user_id", "anonymous_id"})
"""`check_identity` judges an empty one."""


class Query(msgspec.Struct, kw_only=True):
    """A checked read. `now` in ms, `cursor` as `cursor.decode` gives it.

    `resolve` checks later whether the placement and its filter exist.
    """

    user_id: str | None = None
    anonymous_id: str | None = None
    count: int = 10
    placement: str = "home"
    session_id: str | None = None
    item_id: str | None = None
    category: str | None = None
    exclude: tuple[str, ...] = ()
    cursor: bytes = b""
    after: Position | None = None
    max_wait_ms: int = 150
    explain: Explain = "reason"
    personalized: bool = True
    now: Millis | None = None
    window: str = "24h"
    filter: str | None = None
    traceparent: bytes = b""
    """The request's trace context, for the records that the answer logs."""
    shown: bool = True
    """False for a HEAD: nobody sees its answer, so its slate is not logged."""
    spending: Spending | None = None
    """What it takes of the caller's limits; None: nothing, or another row of the page has it."""


def _person(text: str, field: str) -> str:
    """As given, since the answer repeats it; "" for blanks alone, which `check_identity` judges. What is no
    id of a person is refused where the person is looked up (`serving.edge.identity.People`)."""
    if not text.strip():
        return ""
    check_id(text, field)
    return text


def _integer(minimum: int, maximum: int) -> Callable[[str, str], int]:
    def read(text: str, field: str) -> int:
        digits = text[1:] if text[:1] == "-" else text
        if not (digits.isascii() and digits.isdigit()):
            raise Rejected(field, "wrong_type")
        if len(text) > 12 or not minimum <= (number := int(text)) <= maximum:
            raise Rejected(field, "out_of_range")
        return number

    return read


def _one_of(*values: str) -> Callable[[str, str], str]:
    def read(text: str, field: str) -> str:
        if text not in values:
            raise Rejected(field, "unknown_value")
        return text

    return read


def _boolean(text: str, field: str) -> bool:
    if text not in ("true", "false"):
        raise Rejected(field, "wrong_type")
    return text == "true"


def _cursor(text: str, field: str) -> bytes:
    return cursor.decode(text, field)


def _position(text: str, field: str) -> Position:
    try:
        return Position.parse(text)
    except ValueError:
        raise Rejected(field, "malformed") from None


Reader = Callable[[Any, str], Any]
READERS: Final[Mapping[str, Reader]] = {
    "user_id": _person,
    "anonymous_id": _person,
    "count": _integer(1, MAX_COUNT),
    "placement": check_id,
    "session_id": check_id,
    "item_id": check_item_id,
    "category": check_id,
    "exclude": check_item_id,
    "filter": check_text,
    "cursor": _cursor,
    "after": _position,
    "max_wait_ms": _integer(0, MAX_WAIT_MS),
    "explain": _one_of(*EXPLAIN),
    "personalized": _boolean,
    "now": times.parse,
}
"""Parameter of the query string -> its reader, for recommendations."""
SIMILAR_READERS: Final = {name: READERS[name] for name in ("count", "cursor", "now", "exclude")}
POPULAR_READERS: Final = {
    "category": READERS["category"],
    "window": _one_of(*WINDOWS[:3]),
    **{name: READERS[name] for name in ("count", "cursor", "now")},
}


def recommendations(raw: bytes) -> Query:
    """The query of a recommendation. Errors: `Rejected`: an unknown, repeated or malformed parameter."""
    query = _parse(raw, READERS)
    check_identity(query)
    return query


def popular(raw: bytes) -> Query:
    """The query of a popular list. Errors: `Rejected`."""
    return _parse(raw, POPULAR_READERS)


def similar(raw: bytes) -> Query:
    """The query of a list of similar items. Errors: `Rejected`."""
    return _parse(raw, SIMILAR_READERS)


def no_parameters(raw: bytes) -> None:
    """Checks the query string of a route without parameters. Errors: `Rejected`."""
    _parse(raw, {})


def check_identity(query: Query, path: str = "") -> None:
    """Errors: `Rejected` unless exactly one of the two ids is given; `path` prefixes the field's name. An id
    of blanks alone beside the other one is not given, and is none alone."""
    if query.user_id == "" and query.anonymous_id is not None:
        query.user_id = None
    elif query.anonymous_id == "" and query.user_id is not None:
        query.anonymous_id = None
    for field in ("user_id", "anonymous_id"):
        if getattr(query, field) == "":
            raise Rejected(path + field, "not_an_id")
    if query.user_id is None and query.anonymous_id is None:
        raise Rejected(f"{path}user_id", "required")
    if query.user_id is not None and query.anonymous_id is not None:
        raise Rejected(f"{path}anonymous_id", "conflicts_with_user_id")


def _parse(raw: bytes, readers: Mapping[str, Reader]) -> Query:
    values: dict[str, Any] = {}
    excluded: list[str] = []
    for name, text in pairs(raw, readers, ("exclude",), INSTEAD):
        if not text and name not in _IDS:
            continue  # an empty one is not said
        parsed = readers[name](text, name)
        if name == "exclude":
            excluded.append(parsed)
        else:
            values[name] = parsed
    if len(excluded) > MAX_EXCLUDED_IDS:
        raise Rejected("exclude", "too_many")
    return Query(**values, exclude=tuple(excluded))
