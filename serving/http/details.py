"""The detail of a 422: what is taken instead, read off the schemas that `/openapi.json` shows.

The schemas are those of the types that read the request, so a detail cannot differ from what is taken.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, Final

from schemas.api.patterns import ID
from serving.http.errors import FieldError
from serving.http.registry import definitions

_STEP: Final = re.compile(r"[^.\[\]]+|\[[^\]]*\]")
_DESCRIBED: Final = frozenset(
    {
        "empty",
        "malformed",
        "not_a_duration",
        "not_a_time",
        "out_of_range",
        "required",
        "too_few",
        "too_long",
        "too_many",
        "unknown_action",
        "unknown_currency",
        "unknown_value",
        "wrong_type",
    }
)
"""Codes whose detail is what the field takes."""
_MEANINGS: Final = {
    "conflicts_with_user_id": "is not taken beside user_id",
    "control_character": "takes no control characters",
    "in_the_future": "takes no time ahead of the server's clock",
    "malformed_json": "is no valid JSON",
    "mismatch": "must be the one of the path",
    "missing_release": "takes a release that there is",
    "not_addressable": "takes neither . nor .., which no path can hold",
    "not_an_id": "takes an id, no blanks alone and no word for nothing such as undefined",
    "not_utf8": "must be in UTF-8",
    "out_of_scale": "must lie on its scale",
    "overlapping_experiment": "has a running experiment, which must be paused first",
    "repeated": "may be given once",
    "too_deep": "is nested too deeply",
    "too_large": "makes too large a record, with its texts and numbers",
    "unknown_placement": "takes a placement that there is, as GET /v1/placements lists them",
    "wrong_partition": "takes a position that a write of the same person answered",
}
_BY_DESCRIPTION: Final = frozenset({"malformed", "unknown_currency"})
"""Codes whose detail is the description of the field's schema: what it takes has a form of its own."""
_TIME: Final = "a time of RFC 3339 with its offset, such as 2024-01-31T12:00:00Z"
_Schema = Mapping[str, Any]


def detail(
    operation: Mapping[str, Any], errors: Iterable[FieldError], ids: Container[str] = ()
) -> str:
    """A sentence on the first error, "" where there is nothing to say. `operation`: what a route declares for
    its OpenAPI operation (``parameters``, ``requestBody``); `ids`: those in its path."""
    for error in errors:
        path = _STEP.findall(error.field)
        if error.code == "unknown_field":
            return _fields(operation, path[:-1])
        if error.code in _MEANINGS:
            return f"{error.field} {_MEANINGS[error.code]}."
        if error.code in _DESCRIBED and (said := _takes(_found(operation, path, ids), error.code)):
            verb = "is required and takes" if error.code == "required" else "takes"
            return f"{error.field} {verb} {said}."
        break
    return ""


def _found(operation: Mapping[str, Any], path: list[str], ids: Container[str]) -> Iterator[_Schema]:
    """The schemas of what the path names: a parameter, else fields of the body."""
    for parameter in operation.get("parameters", ()):
        if path == [parameter["name"]]:
            yield parameter["schema"]
            return
    if len(path) == 1 and path[0] in ids:
        yield ID
        return
    yield from _below(_bodies(operation), path[:-1] if path[-1:] == ["body"] else path)


def _bodies(operation: Mapping[str, Any]) -> list[_Schema]:
    content = operation.get("requestBody", {}).get("content", {})
    return [body["schema"] for body in list(content.values())[:1]]  # the others have the same types


def _below(schemas: Iterable[_Schema], path: list[str]) -> list[_Schema]:
    """The alternatives that the path leads to."""
    found = [each for schema in schemas for each in _alternatives(schema)]
    for step in path:
        found = [
            each
            for schema in found
            for below in _step(schema, step)
            for each in _alternatives(below)
        ]
    return found


def _alternatives(schema: _Schema) -> list[_Schema]:
    if "$ref" in schema:
        return _alternatives(definitions()[schema["$ref"].rpartition("/")[2]])
    if "properties" in schema:  # what stands beside those says which go together
        return [schema]
    several = schema.get("anyOf") or schema.get("oneOf")
    return [each for one in several for each in _alternatives(one)] if several else [schema]


def _step(schema: _Schema, step: str) -> Iterator[_Schema]:
    if step.startswith("["):
        if "items" in schema:
            yield schema["items"]
            return
    elif step in schema.get("properties", {}):
        yield schema["properties"][step]
        return
    if isinstance(schema.get("additionalProperties"), dict):
        yield schema["additionalProperties"]


def _fields(operation: Mapping[str, Any], path: list[str]) -> str:
    """The fields of the objects that the path leads to, or of those nearest above: a name may hold dots."""
    for depth in range(len(path), -1, -1):
        found = _below(_bodies(operation), path[:depth])
        names = [", ".join(schema["properties"]) for schema in found if schema.get("properties")]
        if names:
            where = re.sub(r"\.\[", "[", ".".join(path[:depth])) or "The body"
            return f"{where} has the fields {'; or '.join(dict.fromkeys(names))}."
    return ""


def _takes(schemas: Iterable[_Schema], code: str) -> str:
    phrases = dict.fromkeys(filter(None, (_phrase(schema, code) for schema in schemas)))
    return " or ".join(phrases)


def _phrase(schema: _Schema, code: str) -> str:
    """What one schema takes, "" for null: that is as good as nothing."""
    if code in _BY_DESCRIPTION:
        return str(schema.get("description", ""))
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    match schema.get("type"):
        case "string" if schema.get("format") == "date":
            return "a date such as 2024-01-31"
        case "string" if schema.get("format") == "date-time":
            least, most = schema.get("formatMinimum"), schema.get("formatMaximum")
            within = f", from {least[:10]} to {most[:10]}" if least and most else ""
            return _TIME + (within if code == "out_of_range" else "")
        case "string" if code == "not_a_duration":
            return "a whole number of s, m, h or d such as 12h, or never"
        case "string":
            # what is too long has few characters perhaps, but too many bytes
            unit = " bytes of UTF-8" if code == "too_long" else " characters"
            return "a text" + _bounds(schema, "Length", unit)
        case "integer":
            return "a whole number" + _bounds(schema, "imum", "")
        case "number":
            return "a number" + _bounds(schema, "imum", "")
        case "boolean":
            return "true or false"
        case "array" if code == "too_long":  # in a query every entry has the name of the list
            return _takes(_alternatives(schema.get("items", {})), code)
        case "array":
            return "a list" + _bounds(schema, "Items", " entries")
        case "object":
            return "an object" + _fields_of(schema, code)
    return ""


def _fields_of(schema: _Schema, code: str) -> str:
    """What the fields of an object are, and its values where `code` is about them."""
    if schema.get("properties"):
        return f" with the fields {', '.join(schema['properties'])}"
    bounds = _bounds(schema, "Properties", " fields")
    if code == "too_long" and "propertyNames" in schema:
        longest = schema["propertyNames"]["maxLength"]
        return f"{bounds}, whose names and texts have a length of at most {longest}"
    return bounds + (", whose numbers are at most 2^53" if code == "out_of_range" else "")


def _bounds(schema: _Schema, what: str, unit: str) -> str:
    """The bounds ``min{what}`` and ``max{what}`` of a schema, in words."""
    least, most = (_plain(schema.get(f"{end}{what}")) for end in ("min", "max"))
    if "exclusiveMinimum" in schema:
        return f" above {_plain(schema['exclusiveMinimum'])} and at most {most}"
    if least is not None and most is not None:
        return f" {'of' if unit else 'from'} {least} to {most}{unit}"
    if most is not None:
        return f" of at most {most}{unit}"
    return f" of at least {least}{unit}" if least is not None else ""


def _plain(number: float | None) -> float | None:
    return int(number) if isinstance(number, float) and number.is_integer() else number
