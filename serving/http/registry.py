"""The types of requests and answers, and their JSON Schemas: one set for the description and for errors."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec

ID: Final = {"type": "string", "minLength": 1, "maxLength": 256}
_REF: Final = "#/components/schemas/{name}"
_types: dict[str, Any] = {}


def schema_of(*types: Any) -> dict[str, Any]:
    """The schema of one of `types`, which refers to `definitions`."""
    for kind in types:
        _types[str(kind)] = kind
    schemas, _ = msgspec.json.schema_components(types, ref_template=_REF)
    return schemas[0] if len(schemas) == 1 else {"oneOf": list(schemas)}


def definitions() -> dict[str, Any]:
    """Name -> schema, of every type that a schema of `schema_of` refers to."""
    return _definitions(len(_types))


@lru_cache(maxsize=1)
def _definitions(count: int) -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(list(_types.values()), ref_template=_REF)
    return schemas
