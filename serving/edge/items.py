"""From the bytes of an item request to the record of `items`. Pure: no clock, no socket.

Items are taken as shops have them: what is null is not said, blank tags go, and an attribute that cannot be
kept costs that attribute alone, which the answer says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from schemas import times
from schemas.alphabet import Millis
from schemas.api.patterns import ItemId
from schemas.events import Scalar
from schemas.identity import check_id, check_item_id, check_text, partition_of, trimmed
from schemas.items import (
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTES,
    MAX_EMBEDDING_DIMENSIONS,
    MAX_EMBEDDING_VALUE,
    MAX_LIST_LENGTH,
    MAX_TEXT_BYTES,
    MAX_TITLE_BYTES,
    NULL_CLEARS,
    DeleteItem,
    Item,
    ItemChange,
    ItemIn,
    PatchItem,
    PutItem,
    with_primary,
)
from schemas.record import Record
from schemas.reject import Rejected
from serving.http.body import decode
from serving.http.errors import FieldError
from serving.http.forms import Form, Rejection
from serving.http.paths import check_addressable

MAX_ITEM_BYTES: Final = 512 * 1024
"""Of the record of one item; Kafka takes a little less than 1 MiB."""
MAX_EXACT: Final = 2**53
"""Beyond it a reader that has only floats would change a whole number."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_NAME: Final = re.compile(r"\w[\w.\-]{0,63}", re.ASCII)
"""What a client calls an attribute, where an answer may repeat it."""

ItemPatch: Final = msgspec.defstruct(
    "ItemPatch",
    [(f.name, f.type | UnsetType, UNSET) for f in msgspec.structs.fields(ItemIn)],
    forbid_unknown_fields=True,
    kw_only=True,
)
"""`ItemIn` of which every field may be missing. Null clears a time or the embedding; null in another field is
not said."""


def _read_as(name: str, missing: Any) -> type[msgspec.Struct]:
    """`ItemIn` with `missing` where it lacks a field, and the values of attributes undecoded."""
    other = UnsetType if missing is UNSET else None
    raw = dict[str, msgspec.Raw]
    fields: list[Any] = [
        (f.name, (raw if f.name == "attributes" else f.type) | other | None, missing)
        for f in msgspec.structs.fields(ItemIn)
    ]
    return msgspec.defstruct(name, fields, forbid_unknown_fields=True, kw_only=True)


FORM: Final[Form[Any]] = Form(_read_as("ItemIn", None), "items")


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """The default of a field that has one."""
    made = field.default_factory
    return field.default if made is msgspec.NODEFAULT else made()


ListedItem: Final = msgspec.defstruct(
    "ListedItem",
    [
        (f.name, ItemId) if f.name == "item_id" else (f.name, f.type, default_of(f))
        for f in msgspec.structs.fields(ItemIn)
    ],
    forbid_unknown_fields=True,
    kw_only=True,
)
"""`ItemIn` whose id no path has."""
DOCUMENTED: Final = Form(ListedItem, "items")
"""What `FORM` reads, as documents show it."""
_ONE: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(_read_as("ItemIn", None))
_PATCH: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(_read_as("ItemPatch", UNSET))
_ENCODE: Final = msgspec.json.Encoder().encode


class IngestedItem(NamedTuple):
    """`dropped`: the attributes that the record lacks, and why."""

    record: Record
    dropped: list[FieldError]


class IngestedItems(NamedTuple):
    """`dropped`: the attributes that the records lack, and why."""

    records: list[Record]
    rejected: list[Rejection]
    dropped: list[Rejection]
    single: bool


def put(body: bytes, item_id: str, now: Millis, partitions: int) -> IngestedItem:
    """The record of a whole item; an id in the body must equal that of the path. Errors: `Problem`,
    `Rejected`."""
    check_addressable(check_item_id(item_id, "item_id"), "item_id")
    return _put(decode(body, _ONE), item_id, now, partitions)


def put_many(body: bytes, now: Millis, partitions: int, *, ndjson: bool) -> IngestedItems:
    """The records of several items, and the rejected ones. Errors: `Problem`, `Rejected` where the whole body
    can't be taken."""
    parsed = FORM.read(body, ndjson=ndjson)
    if parsed.sent_at is not None:  # as for events, though it corrects no time here
        times.moment(parsed.sent_at, "sent_at")
    records: list[Record] = []
    dropped: list[Rejection] = []

    def put_one(index: int, given: Any) -> None:
        if given.item_id is None:
            raise Rejected("item_id", "required")
        item_id = check_addressable(check_item_id(given.item_id, "item_id"), "item_id")
        record, without = _put(given, item_id, now, partitions)
        records.append(record)
        dropped.extend([Rejection(index, each.field, each.code) for each in without])

    return IngestedItems(records, parsed.for_each(put_one), dropped, parsed.single)


def patch(
    body: bytes, item_id: str, now: Millis, partitions: int, *, creates: bool = False
) -> IngestedItem:
    """The record of a change of those fields that the body has. `creates`: where there is no such item, it
    makes one. Errors: `Problem`, `Rejected`."""
    check_item_id(item_id, "item_id")
    if creates:
        check_addressable(item_id, "item_id")
    given = msgspec.structs.asdict(decode(body, _PATCH))
    given = {
        name: value
        for name, value in given.items()
        if value is not UNSET and (value is not None or name in NULL_CLEARS)
    }
    dropped: list[FieldError] = []
    fields = _checked(given, item_id, dropped)
    raws = {name: msgspec.Raw(_ENCODE(value)) for name, value in fields.items()}
    change = PatchItem(item_id=item_id, fields=raws, received_at=now, creates=creates)
    return IngestedItem(_record(change, item_id, partitions), dropped)


def delete(item_id: str, now: Millis, partitions: int) -> Record:
    return _record(DeleteItem(item_id=item_id, received_at=now), item_id, partitions)


def check_each(
    texts: tuple[str, ...], field: str, max_texts: int, check: Callable[[str, str], str]
) -> tuple[str, ...]:
    """Each text as `check` gives it. Errors: `Rejected` for more than `max_texts`, or with the first that it
    refuses: ``tags[3]``."""
    if len(texts) > max_texts:
        raise Rejected(field, "too_many")
    return tuple([check(text, f"{field}[{index}]") for index, text in enumerate(texts)])


def check_words(texts: Sequence[str | None], field: str, max_texts: int) -> tuple[str, ...]:
    """The texts, `trimmed` and each once; null and blanks go. Errors: as `check_each`'s."""
    found: dict[str, None] = {}
    for index, text in enumerate(texts):
        if text and (word := trimmed(text)):
            found[check_text(word, f"{field}[{index}]")] = None
    if len(found) > max_texts:
        raise Rejected(field, "too_many")
    return tuple(found)


def _put(given: Any, item_id: str, now: Millis, partitions: int) -> IngestedItem:
    fields = msgspec.structs.asdict(given)
    dropped: list[FieldError] = []
    checked = _checked({k: v for k, v in fields.items() if v is not None}, item_id, dropped)
    change = PutItem(item=with_primary(Item(item_id=item_id, **checked)), received_at=now)
    return IngestedItem(_record(change, item_id, partitions), dropped)


def _record(change: ItemChange, item_id: str, partitions: int) -> Record:
    value = _ENCODE(change)
    if len(value) > MAX_ITEM_BYTES:
        raise Rejected("body", "too_large")
    key = item_id.encode()
    return Record(key, partition_of(key, partitions), value)


def _checked(fields: dict[str, Any], item_id: str, dropped: list[FieldError]) -> dict[str, Any]:
    """The checked fields of an `Item`, times in ms. Adds the attributes that go to `dropped`. Errors:
    `Rejected`."""
    given = fields.pop("item_id", None)
    if given is not None and check_id(given, "item_id", "not_an_id") != item_id:
        raise Rejected("item_id", "mismatch")
    for name in ("type", "category", "owner_id", "group_id"):
        if name in fields:
            text = trimmed(fields[name])
            fields[name] = check_text(text, name) if text else ""
    for name in ("categories", "tags"):
        if name in fields:
            fields[name] = check_words(fields[name], name, MAX_LIST_LENGTH)
    if "title" in fields:
        # a line break of a feed is a blank: titles are shown in one line
        title = trimmed(_CONTROL.sub(" ", fields["title"]))
        fields["title"] = _bounded(title, "title", MAX_TITLE_BYTES)
    if "text" in fields:
        _bounded(fields["text"], "text", MAX_TEXT_BYTES)
    if "attributes" in fields:
        fields["attributes"] = _attributes(fields["attributes"], dropped)
    if fields.get("embedding") is not None:
        _check_embedding(fields["embedding"])
    for name in ("published_at", "expires_at"):
        if fields.get(name) is not None:
            fields[name] = times.parse_any_year(fields[name], name)
    return fields


def _bounded(text: str, field: str, most: int) -> str:
    """`text`, of at most so many bytes of UTF-8. Errors: `Rejected` ``too_long``."""
    if len(text) > most or (4 * len(text) > most and len(text.encode()) > most):
        raise Rejected(field, "too_long")
    return text


def _attributes(raws: dict[str, msgspec.Raw], dropped: list[FieldError]) -> dict[str, Scalar]:
    """The attributes that can be kept; the others go to `dropped`. Errors: `Rejected`."""
    if len(raws) > MAX_ATTRIBUTES:
        raise Rejected("attributes", "too_many")
    kept: dict[str, Scalar] = {}
    for name, raw in raws.items():
        _bounded(name, "attributes", MAX_ATTRIBUTE_BYTES)
        field = f"attributes.{name}" if _NAME.fullmatch(name) else "attributes"
        value = _scalar(raw, field)
        if isinstance(value, FieldError):
            dropped.append(value)
        else:
            kept[name] = value
    return kept


def _scalar(raw: msgspec.Raw, field: str) -> Scalar | FieldError:
    """The value of an attribute, or why it cannot be kept. Errors: `Rejected`."""
    if memoryview(raw)[0] in b"[{":
        return FieldError(field, "wrong_type")
    try:
        value: Any = msgspec.json.decode(raw)
    except msgspec.ValidationError:  # a number of more digits than a float or an int takes
        return FieldError(field, "out_of_range")
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Rejected(field, "malformed") from None
    if value is None:
        return FieldError(field, "null")
    if isinstance(value, str):
        return _bounded(value, field, MAX_ATTRIBUTE_BYTES)
    if isinstance(value, int) and abs(value) > MAX_EXACT:
        return FieldError(field, "out_of_range")
    return value  # type: ignore[no-any-return]


def _check_embedding(embedding: tuple[float, ...]) -> None:
    if not 0 < len(embedding) <= MAX_EMBEDDING_DIMENSIONS:
        raise Rejected("embedding", "out_of_range")
    # a NaN fails this comparison
    if not all(abs(x) <= MAX_EMBEDDING_VALUE for x in embedding):
        place = next(n for n, x in enumerate(embedding) if not abs(x) <= MAX_EMBEDDING_VALUE)
        raise Rejected(f"embedding[{place}]", "out_of_range")
