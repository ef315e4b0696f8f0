"""The fields of the API, and the converter of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import inspect

from infra.datasets import convert
from infra.datasets.convert import Converter
from schemas.events import EventIn
from schemas.items import ItemIn

_LISTS: Final = {"categories": convert.texts, "tags": convert.texts, "embedding": convert.numbers}
_MAPPINGS: Final = {"attributes": convert.attributes, "context": convert.mapping}
_TYPES: Final[tuple[tuple[type[Any], Converter], ...]] = (
    (inspect.BoolType, convert.boolean),
    (inspect.IntType, convert.integer),
    (inspect.FloatType, convert.number),
    (inspect.StrType, convert.text),
)


class Schema(NamedTuple):
    """What a row is to become. `required`: groups of fields of which each row has at least one."""

    converters: dict[str, Converter]
    required: tuple[tuple[str, ...], ...]

    def converter(self, field: str) -> Converter | None:
        """Of a field, or of a value in a mapping as ``attributes.colour``; None: there is no such field."""
        outer, dot, inner = field.partition(".")
        if dot and outer in _MAPPINGS:
            return convert.scalar if inner and outer in self.converters else None
        return self.converters.get(field)


def _schema(struct: type[msgspec.Struct], *required: tuple[str, ...]) -> Schema:
    found: dict[str, Converter] = {}
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        found |= _converters(field.name, field.type)
    return Schema(found, required)


def _converters(name: str, kind: inspect.Type) -> dict[str, Converter]:
    """By the name where that says more than the type; of a struct those of its fields. {}: it is ignored."""
    if name.endswith("_id"):
        return {name: convert.identifier}
    if name.endswith("_at"):
        return {name: convert.time}
    if name in _LISTS:
        return {name: _LISTS[name]}
    if name in _MAPPINGS:
        return {name: _MAPPINGS[name]}
    kinds = [*_plain(kind)]
    for it in kinds:
        if isinstance(it, inspect.StructType):
            inner = [_converters(f"{name}.{field.name}", field.type) for field in it.fields]
            return {key: value for found in inner for key, value in found.items()}
    for wanted, converter in _TYPES:
        if any(isinstance(it, wanted) for it in kinds):
            return {name: converter}
    return {}


def _plain(kind: inspect.Type) -> Iterator[inspect.Type]:
    """The types of a union, each without what is noted on it."""
    if isinstance(kind, inspect.Metadata):
        yield from _plain(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for it in kind.types:
            yield from _plain(it)
    else:
        yield kind


EVENTS: Final = _schema(EventIn, ("item_id",), ("action",), ("user_id", "anonymous_id"))
ITEMS: Final = _schema(ItemIn, ("item_id",))
