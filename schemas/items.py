"""`items`: the catalogue as a log of changes, and the item as stores hold it."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from schemas import times
from schemas.alphabet import Millis, between
from schemas.api.patterns import ItemId, Word, bytes_of, described
from schemas.events import Scalar
from schemas.headers import Schema
from schemas.identity import trimmed

SCHEMA: Final = Schema("item", 2)
"""2: a patch may say that it creates nothing."""
NULL_CLEARS: Final = ("published_at", "expires_at", "embedding")
"""The fields that a patch clears by null; null in any other one is not said."""


MAX_TITLE_BYTES: Final = 1024
"""Of UTF-8, as the bounds of the other texts. The edge takes no longer one, a log may have some."""
MAX_TEXT_BYTES: Final = 64 * 1024
MAX_LIST_LENGTH: Final = 100
MAX_ATTRIBUTES: Final = 256
MAX_ATTRIBUTE_BYTES: Final = 1024
"""Of an attribute's text, and of its name."""
MAX_EMBEDDING_DIMENSIONS: Final = 4096
MAX_EMBEDDING_VALUE: Final = 1e6
"""Of a component of an embedding: sums of squares stay finite in single precision."""


def _at_most(what: str, most: int) -> msgspec.Meta:
    # for the schema alone: the edge counts, and bytes instead of characters
    return msgspec.Meta(extra_json_schema={f"max{what}": most})


_COMPONENTS: Final = msgspec.Meta(
    extra_json_schema={"minItems": 1, "maxItems": MAX_EMBEDDING_DIMENSIONS}
)
_Component = Annotated[float, between(-MAX_EMBEDDING_VALUE, MAX_EMBEDDING_VALUE)]
_VALUE: Final = {
    "anyOf": [
        bytes_of(MAX_ATTRIBUTE_BYTES),
        *({"type": name} for name in ("number", "boolean", "null", "array", "object")),
    ]
}
_Value = Annotated[Any, described(_VALUE)]
_ATTRIBUTES: Final = msgspec.Meta(
    extra_json_schema={
        "maxProperties": MAX_ATTRIBUTES,
        "propertyNames": {"maxLength": MAX_ATTRIBUTE_BYTES},
    }
)
_Words = Annotated[tuple[Word | None, ...], _at_most("Items", MAX_LIST_LENGTH)]


class ItemIn(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """An item as a client PUTs it; `item_id` may come from the path. A field that is null is not said.

    Times are RFC 3339 of any year from 1 to 9999, or a date alone, which is its midnight in UTC; an item that
    expires after 2100 never does. `category`, the primary one, is always among `categories`: where it is not,
    it is put in front of them, and without it the first of them is the primary one. A title and the text of
    an attribute take 1 kB, a text 64 kB of UTF-8. An attribute that is a list, an object, null or a number
    beyond 2^53 is left out, and the answer says so.
    """

    item_id: ItemId | None = None
    group_id: Word | None = ""
    type: Word | None = ""
    category: Word | None = ""
    categories: _Words | None = ()
    tags: _Words | None = ()
    title: Annotated[str, described(bytes_of(MAX_TITLE_BYTES))] | None = ""
    text: Annotated[str, described(bytes_of(MAX_TEXT_BYTES))] | None = ""
    attributes: Annotated[dict[str, _Value], _ATTRIBUTES] | None = {}
    embedding: Annotated[tuple[_Component, ...], _COMPONENTS] | None = None
    owner_id: Word | None = ""
    available: bool | None = True
    published_at: times.DayText | None = None
    expires_at: times.DayText | None = None


class Item(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An item, whole. `category` is the primary one, and among `categories` (`with_primary`)."""

    item_id: str
    group_id: str = ""
    """The variants of one thing share it ("": it has none): a slate shows one of them."""
    type: str = ""
    category: str = ""
    categories: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    title: str = ""
    text: str = ""
    attributes: dict[str, Scalar] = {}
    embedding: tuple[float, ...] | None = None
    owner_id: str = ""
    available: bool = True
    published_at: Millis | None = None
    expires_at: Millis | None = None


class PutItem(msgspec.Struct, tag_field="kind", tag="put", kw_only=True, omit_defaults=True):
    """The item is now this."""

    item: Item
    received_at: Millis


class PatchItem(msgspec.Struct, tag_field="kind", tag="patch", kw_only=True, omit_defaults=True):
    """These fields of the item changed."""

    item_id: str
    fields: dict[str, msgspec.Raw]
    received_at: Millis
    creates: bool = True
    """It makes the item where there is none. The records of before do not say, and do."""


class DeleteItem(msgspec.Struct, tag_field="kind", tag="delete", kw_only=True):
    item_id: str
    received_at: Millis


ItemChange = PutItem | PatchItem | DeleteItem
CHANGE_DECODER: Final = msgspec.json.Decoder(ItemChange)
ITEM_DECODER: Final = msgspec.json.Decoder(Item)
EVERY_KIND: Final = (PutItem, PatchItem, DeleteItem)


def decode(value: bytes) -> ItemChange:
    change: ItemChange = CHANGE_DECODER.decode(value)
    return change


def decode_item(value: bytes) -> Item:
    """The item that a store holds, `with_primary`: what was stored before may lack that. Errors:
    `msgspec.DecodeError`."""
    return with_primary(ITEM_DECODER.decode(value))


def apply(change: ItemChange, before: Item | None) -> Item | None:
    """The item after `change`, or None where it is gone, or a patch that creates nothing finds none.

    A patch of categories alone derives the primary one again; one of that alone puts it among them.
    Errors: `msgspec.ValidationError` where a patched field has the wrong type.
    """
    if isinstance(change, PutItem):
        return with_primary(change.item)
    if isinstance(change, DeleteItem) or (before is None and not change.creates):
        return None
    now: dict[str, object] = (
        msgspec.to_builtins(before) if before is not None else {"item_id": change.item_id}
    )
    patched = {name: msgspec.json.decode(raw) for name, raw in change.fields.items()}
    if "categories" in patched:
        now.pop("category", None)
    now.update(patched)
    return with_primary(msgspec.convert(now, Item))


def with_primary(item: Item) -> Item:
    """`item`, whose tags and categories have no blanks at their ends, none that is empty and each once, and
    whose primary category is among them.

    >>> made = with_primary(Item(item_id="boot", category="sale", categories=("shoes", " sale ", "shoes")))
    >>> made.category, made.categories, with_primary(Item(item_id="i", categories=("a", "b"))).category
    ('sale', ('shoes', 'sale'), 'a')
    """
    item.category, item.tags = trimmed(item.category), distinct(item.tags)
    found = distinct(item.categories)
    if item.category and item.category not in found:
        found = (item.category, *found)
    elif found and not item.category:
        item.category = found[0]
    item.categories = found
    return item


def distinct(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The texts `trimmed`, each once, without those that are empty then."""
    return tuple(dict.fromkeys(filter(None, map(trimmed, texts))))


def document(item: Item) -> dict[str, Any]:
    """The item as clients read it: times in RFC 3339, UTC, milliseconds."""
    fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(item))
    for name in ("published_at", "expires_at"):
        if fields.get(name) is not None:
            fields[name] = times.render(fields[name])
    return fields
