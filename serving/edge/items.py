"""From the bytes of an item request to the record of `items`. Pure: no clock, no socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from schemas import times
from schemas.alphabet import Millis
from schemas.identity import check_id, check_item_id, check_text, partition_of
from schemas.items import DeleteItem, Item, ItemChange, ItemIn, PatchItem, PutItem
from schemas.record import Record
from schemas.reject import Rejected
from serving.http.body import decode
from serving.http.forms import Form, Rejection

MAX_ITEM_BYTES: Final = 512 * 1024
"""Of the record of one item; Kafka takes a little less than 1 MiB."""
MAX_LIST_LENGTH: Final = 100
MAX_ATTRIBUTES: Final = 256
MAX_EMBEDDING_DIMENSIONS: Final = 4096
MAX_EMBEDDING_VALUE: Final = 1e6
"""Of a component of an embedding: sums of squares stay finite in single precision."""

ItemPatch: Final = msgspec.defstruct(
    "ItemPatch",
    [(f.name, f.type | UnsetType, UNSET) for f in msgspec.structs.fields(ItemIn)],
    forbid_unknown_fields=True,
    kw_only=True,
)
"""`ItemIn` of which every field may be missing; null clears a time or the embedding."""

FORM: Final = Form(ItemIn, "items")
_ONE: Final = msgspec.json.Decoder(ItemIn)
_PATCH: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(ItemPatch)
_ENCODE: Final = msgspec.json.Encoder().encode


class IngestedItems(NamedTuple):
    records: list[Record]
    rejected: list[Rejection]
    single: bool


def put(body: bytes, item_id: str, now: Millis, partitions: int) -> Record:
    """The record of a whole item; an id in the body must equal that of the path. Errors: `Problem`,
    `Rejected`."""
    check_item_id(item_id, "item_id")
    parsed = decode(body, _ONE)
    return _record(PutItem(item=_item(parsed, item_id), received_at=now), item_id, partitions)


def put_many(body: bytes, now: Millis, partitions: int, *, ndjson: bool) -> IngestedItems:
    """The records of several items, and the rejected ones. Errors: `Problem`, `Rejected` where the whole body
    can't be taken."""
    parsed = FORM.read(body, ndjson=ndjson)
    records: list[Record] = []

    def put_one(_: int, item: ItemIn) -> None:
        if item.item_id is None:
            raise Rejected("item_id", "required")
        item_id = check_item_id(item.item_id, "item_id")
        change = PutItem(item=_item(item, item_id), received_at=now)
        records.append(_record(change, item_id, partitions))

    return IngestedItems(records, parsed.for_each(put_one), parsed.single)


def patch(body: bytes, item_id: str, now: Millis, partitions: int) -> Record:
    """The record of a change of those fields that the body has. Errors: `Problem`, `Rejected`."""
    check_item_id(item_id, "item_id")
    parsed = decode(body, _PATCH)
    named = {name: getattr(parsed, name) for name in parsed.__struct_fields__}
    fields = _checked({name: value for name, value in named.items() if value is not UNSET}, item_id)
    raws = {name: msgspec.Raw(_ENCODE(value)) for name, value in fields.items()}
    return _record(PatchItem(item_id=item_id, fields=raws, received_at=now), item_id, partitions)


def delete(item_id: str, now: Millis, partitions: int) -> Record:
    return _record(DeleteItem(item_id=item_id, received_at=now), item_id, partitions)


def _item(parsed: ItemIn, item_id: str) -> Item:
    item = Item(item_id=item_id, **_checked(msgspec.structs.asdict(parsed), item_id))
    if item.categories and not item.category:
        item.category = item.categories[0]
    return item


def _record(change: ItemChange, item_id: str, partitions: int) -> Record:
    value = _ENCODE(change)
    if len(value) > MAX_ITEM_BYTES:
        raise Rejected("body", "too_large")
    key = item_id.encode()
    return Record(key, partition_of(key, partitions), value)


def _checked(fields: dict[str, Any], item_id: str) -> dict[str, Any]:
    """The checked fields of an `Item`, times in ms. Errors: `Rejected`."""
    given = fields.pop("item_id", None)
    if given is not None and check_id(given, "item_id", "not_an_id") != item_id:
        raise Rejected("item_id", "mismatch")
    for name in ("type", "category"):
        if fields.get(name):
            check_text(fields[name], name)
    for name in ("owner_id", "group_id"):
        if fields.get(name):
            fields[name] = check_id(fields[name], name)
    for name in ("categories", "tags"):
        check_each(fields.get(name, ()), name, MAX_LIST_LENGTH, check_text)
    if len(fields.get("attributes", ())) > MAX_ATTRIBUTES:
        raise Rejected("attributes", "too_many")
    _check_numbers(fields)
    for name in ("published_at", "expires_at"):
        if fields.get(name) is not None:
            fields[name] = times.parse(fields[name], name)
    return fields


def check_each(
    texts: tuple[str, ...], field: str, max_texts: int, check: Callable[[str, str], str]
) -> tuple[str, ...]:
    """Each text as `check` gives it. Errors: `Rejected` for more than `max_texts`, or with the first that it
    refuses: ``tags[3]``."""
    if len(texts) > max_texts:
        raise Rejected(field, "too_many")
    return tuple([check(text, f"{field}[{index}]") for index, text in enumerate(texts)])


def _check_numbers(fields: dict[str, Any]) -> None:
    for value in fields.get("attributes", {}).values():
        # beyond 2**53 a reader that has only floats would change a whole number
        if isinstance(value, int) and abs(value) > 2**53:
            raise Rejected("attributes", "out_of_range")
    embedding = fields.get("embedding")
    if embedding is None:
        return
    if not 0 < len(embedding) <= MAX_EMBEDDING_DIMENSIONS:
        raise Rejected("embedding", "out_of_range")
    # a NaN fails this comparison
    if not all(abs(x) <= MAX_EMBEDDING_VALUE for x in embedding):
        raise Rejected("embedding", "out_of_range")
