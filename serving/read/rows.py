"""The JSON body of a read: one row, or the rows of a page; as strict as the query string."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas.api.patterns import ID, ITEM_ID, ONE_PERSON, PRINTABLE, bytes_of, described
from schemas.identity import check_item_id
from schemas.reject import Rejected
from schemas.times import TimeText
from serving.http import body
from serving.http.registry import refine
from serving.read.query import (
    CURSOR_SCHEMA,
    MAX_COUNT,
    MAX_EXCLUDED_IDS,
    MAX_WAIT_MS,
    POSITION_SCHEMA,
    READERS,
    Query,
    Reader,
    check_identity,
)

T = TypeVar("T")
_NOT_SAID: Final = {"type": "null"}
_SEVERAL: Final = {"required": ["requests"], "properties": {"requests": {"type": "array"}}}
_OF_THE_PAGE: Final = {"properties": {"user_id": False, "anonymous_id": False}}
refine("RowIn", anyOf=[_OF_THE_PAGE, *ONE_PERSON])
refine(
    "PageIn",
    anyOf=[
        {
            "properties": {"requests": _NOT_SAID, "distinct": _NOT_SAID},
            "anyOf": ONE_PERSON,
        },
        {**_SEVERAL, "anyOf": ONE_PERSON},
        {
            **_SEVERAL,
            "properties": {"requests": {"type": "array", "items": {"anyOf": ONE_PERSON}}},
        },
    ],
)
MAX_ROWS: Final = 20
"""Rows of one page."""
MAX_PAGE_ITEMS: Final = 500
"""The counts of all rows of a page, added up."""
_TOO_MANY: Final = (
    f"The counts of all rows add up to at most {MAX_PAGE_ITEMS}: ask for fewer rows or items."
)


# for the schema alone: `READERS` check these
_Person = Annotated[str, described(bytes_of(256))]
_Id = Annotated[str, described(ID)]
_Item = Annotated[str, described(ITEM_ID)]
_Filter = Annotated[str, described(bytes_of(256, PRINTABLE, 1))]
_ROWS: Final = Meta(extra_json_schema={"minItems": 1, "maxItems": MAX_ROWS})
_EXCLUDED: Final = Meta(extra_json_schema={"maxItems": MAX_EXCLUDED_IDS})


class RowIn(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One row, with the parameters of the query string; null is the default."""

    user_id: _Person | UnsetType | None = UNSET
    anonymous_id: _Person | UnsetType | None = UNSET
    count: Annotated[int, Meta(ge=1, le=MAX_COUNT)] | UnsetType | None = UNSET
    placement: _Id | UnsetType | None = UNSET
    session_id: _Id | UnsetType | None = UNSET
    item_id: _Item | UnsetType | None = UNSET
    category: _Id | UnsetType | None = UNSET
    exclude: Annotated[list[_Item], _EXCLUDED] | UnsetType | None = UNSET
    filter: _Filter | UnsetType | None = UNSET
    cursor: Annotated[str, described(CURSOR_SCHEMA)] | UnsetType | None = UNSET
    after: Annotated[str, described(POSITION_SCHEMA)] | UnsetType | None = UNSET
    max_wait_ms: Annotated[int, Meta(ge=0, le=MAX_WAIT_MS)] | UnsetType | None = UNSET
    explain: Literal["none", "reason", "full"] | UnsetType | None = UNSET
    personalized: bool | UnsetType | None = UNSET
    now: TimeText | UnsetType | None = UNSET


class PageIn(RowIn, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One row, or with `requests` several, whose counts add up to at most 500: the fields beside `requests`
    are the defaults of each row. `distinct`: an item that a row shows, or a variant of it, is in no row after
    it."""

    requests: Annotated[list[RowIn], _ROWS] | UnsetType | None = UNSET
    distinct: bool | UnsetType | None = UNSET


class Rows(NamedTuple):
    """The rows of one request. `single`: the body was one row and not a list of rows.

    `own[i]` names the fields that row i itself has.
    """

    rows: tuple[Query, ...]
    single: bool
    distinct: bool
    own: tuple[frozenset[str], ...]

    def path(self, row: int, field: str) -> str:
        """The path in the body of the `field` of a row."""
        return f"requests[{row}].{field}" if field in self.own[row] else field


def _texts(texts: list[str], field: str) -> tuple[str, ...]:
    if len(texts) > MAX_EXCLUDED_IDS:
        raise Rejected(field, "too_many")
    return tuple([check_item_id(text, f"{field}[{index}]") for index, text in enumerate(texts)])


def _unchanged(value: T, field: str) -> T:
    return value


# `RowIn` has checked already what has a type in JSON
_TYPED: Final = dict.fromkeys(("count", "max_wait_ms", "explain", "personalized"), _unchanged)
_FIELDS: Final[Mapping[str, Reader]] = {**READERS, **_TYPED, "exclude": _texts}
_ID_FIELDS: Final = frozenset({"user_id", "anonymous_id"})
_PAGE: Final = msgspec.json.Decoder(PageIn)


def parse(raw: bytes) -> Rows:
    """The rows of a JSON body (`PageIn`). Errors: `Rejected` as for a query string, with the path of the
    field; `Problem` 400 where the body is no JSON."""
    page = body.decode(raw, _PAGE)
    shared = _checked_fields(page, "")
    if page.requests is UNSET or page.requests is None:
        if page.distinct is not UNSET and page.distinct is not None:
            raise Rejected("requests", "required")
        return Rows((_query(shared, ""),), True, False, (frozenset(),))
    if not 1 <= len(page.requests) <= MAX_ROWS:
        raise Rejected("requests", "too_many" if page.requests else "empty")
    rows, own = [], []
    for index, row in enumerate(page.requests):
        path = f"requests[{index}]."
        fields = _checked_fields(row, path)
        rows.append(_query(_override(shared, fields), path if _ID_FIELDS & fields.keys() else ""))
        own.append(frozenset(fields))
    if sum(row.count for row in rows) > MAX_PAGE_ITEMS:
        raise Rejected("requests", "too_many", _TOO_MANY)
    return Rows(tuple(rows), False, page.distinct is True, tuple(own))


def _checked_fields(row: RowIn, path: str) -> dict[str, Any]:
    """The checked fields that the row has; None for null."""
    fields = {}
    for name, read in _FIELDS.items():
        value = getattr(row, name)
        if value is not UNSET:
            fields[name] = None if value is None else read(value, path + name)
    return fields


def _override(shared: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`own` overrides `shared`; the two ids count as one field."""
    if _ID_FIELDS & own.keys():
        shared = {name: value for name, value in shared.items() if name not in _ID_FIELDS}
    return {**shared, **own}


def _query(fields: dict[str, Any], path: str) -> Query:
    query = Query(**{name: value for name, value in fields.items() if value is not None})
    check_identity(query, path)
    return query
