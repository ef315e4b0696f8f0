"""The types of requests and answers, and their JSON Schemas: one set for the description and for errors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

_REF: Final = "#/components/schemas/{name}"
_types: dict[str, Any] = {}


class _Refinement(NamedTuple):
    """`null`: its fields that need not be there take null, which is not said."""

    kind: str
    field: str
    more: Mapping[str, Any]
    null: bool = False

    def apply(self, schema: dict[str, Any]) -> None:
        if self.null:
            for name in schema["properties"].keys() - set(schema["required"]):
                schema["properties"][name] = _or_null(schema["properties"][name])
        elif self.field:
            found = schema["properties"][self.field]
            found.get("anyOf", [found])[0].update(self.more)
        else:
            schema.update(self.more)


_refined: list[_Refinement] = []


def refine(kind: str, field: str = "", **more: Any) -> None:
    """Adds what only `serving` knows, or no type can say, to the schema of a type, or of one of its
    fields."""
    _refined.append(_Refinement(kind, field, more))


def take_null(*kinds: str) -> None:
    """Says that fields of these types may be null where they may be missing."""
    _refined.extend(_Refinement(kind, "", {}, null=True) for kind in kinds)


def schema_of(*types: Any) -> dict[str, Any]:
    """The schema of one of `types`, which refers to `definitions`."""
    for kind in types:
        _types[str(kind)] = kind
    schemas, _ = msgspec.json.schema_components(types, ref_template=_REF)
    return schemas[0] if len(schemas) == 1 else {"oneOf": list(schemas)}


def definitions() -> dict[str, Any]:
    """Name -> schema, of every type that a schema of `schema_of` refers to."""
    return _definitions(len(_types), len(_refined))


@lru_cache(maxsize=1)
def _definitions(types: int, refined: int) -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(list(_types.values()), ref_template=_REF)
    for each in _refined:
        if each.kind in schemas:
            each.apply(schemas[each.kind])
    return schemas


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    own = {name: schema[name] for name in ("default", "description") if name in schema}
    rest = {name: value for name, value in schema.items() if name != "default"}
    if isinstance(values := rest.get("additionalProperties"), dict):
        rest["additionalProperties"] = _or_null(values)
    taken = rest.get("anyOf", [rest])
    return own | {"anyOf": [*taken, *([] if {"type": "null"} in taken else [{"type": "null"}])]}
