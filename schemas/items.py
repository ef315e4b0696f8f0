"""`items`: the catalogue as a log of changes, and the item as stores hold it."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.alphabet import GivenId, Millis
from schemas.events import Scalar
from schemas.headers import Schema

SCHEMA: Final = Schema("item", 1)


class ItemIn(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """An item as a client PUTs it (times RFC 3339); `item_id` may come from the path."""

    item_id: GivenId | None = None
    group_id: str = ""
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
    published_at: str | None = None
    expires_at: str | None = None


class Item(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An item, whole. `category` is the primary one; it is `categories[0]` where only those came."""

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
    """These fields of the item changed; a patch of an unknown item creates it."""

    item_id: str
    fields: dict[str, msgspec.Raw]
    received_at: Millis


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


def apply(change: ItemChange, before: Item | None) -> Item | None:
    """The item after `change`, or None where it is gone.

    Errors: `msgspec.ValidationError` where a patched field has the wrong type.
    """
    if isinstance(change, PutItem):
        return change.item
    if isinstance(change, DeleteItem):
        return None
    now: dict[str, object] = (
        msgspec.to_builtins(before) if before is not None else {"item_id": change.item_id}
    )
    now.update({name: msgspec.json.decode(raw) for name, raw in change.fields.items()})
    after = msgspec.convert(now, Item)
    if after.categories and not after.category:
        after.category = after.categories[0]
    return after
