"""`/openapi.json` from the same msgspec types that read the requests, so that it can't be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serving.http.errors import ProblemBody
from serving.http.guard import OPEN, SCOPES, Guarded

_REF: Final = "#/components/schemas/{name}"
_MEANING: Final = {
    400: "The body can't be read",
    401: "No valid token",
    403: "Not allowed",
    404: "There is no such thing",
    413: "Too large",
    422: "A field can't be taken; `errors` names it",
    503: "Nothing durable took it; retry with the same ids after `Retry-After`",
}
ID: Final = {"type": "string", "minLength": 1, "maxLength": 256}
_types: dict[str, Any] = {}


def body(*types: Any, description: str = "", ndjson: bool = False) -> dict[str, Any]:
    """`openapi_extra` of a route that reads a JSON body of one of `types`."""
    content = {"application/json": {"schema": _schema(types)}}
    if ndjson:
        content["application/x-ndjson"] = {"schema": _schema(types[:1])}
    return {"requestBody": {"required": True, "description": description, "content": content}}


def parameters(*given: tuple[str, str, dict[str, Any], str]) -> dict[str, Any]:
    """`openapi_extra` for (name, "path" | "query" | "header", schema, description)."""
    return {
        "parameters": [
            {
                "name": name,
                "in": place,
                "required": place == "path",
                "schema": schema,
                "description": description,
            }
            for name, place, schema, description in given
        ]
    }


def answers(ok: int, kind: Any, *problems: int, description: str = "Done") -> dict[int | str, Any]:
    """`responses` of a route: its answer (of one `kind`, or of one of several), and the problems it may
    give instead."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    told: dict[int | str, Any] = {
        ok: {
            "description": description,
            "content": {"application/json": {"schema": _schema(kinds)}},
        }
    }
    for status in problems:
        told[status] = {
            "description": _MEANING[status],
            "content": {"application/problem+json": {"schema": _schema((ProblemBody,))}},
        }
    return told


def merged(*extras: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for extra in extras for name, value in extra.items()}


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole document. Every operation names its scope under ``security``."""
    told: dict[str, Any] = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    _, schemas = msgspec.json.schema_components(list(_types.values()), ref_template=_REF)
    components = told.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas)
    scopes = "; ".join(f"{scope}: {what}" for scope, what in SCOPES.items())
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": f"Scopes. {scopes}."}
    }
    for route in app.routes:
        if not isinstance(route, Guarded) or not route.include_in_schema:
            continue
        for method in route.methods or ():
            operation = told["paths"][route.path_format][method.lower()]
            _add_path_parameters(route, operation)
            operation["x-scope"] = route.scope
            operation["security"] = [] if route.scope == OPEN else [{"bearer": [route.scope]}]
    return told


def _add_path_parameters(route: Guarded, operation: dict[str, Any]) -> None:
    given = operation.setdefault("parameters", [])
    named = {parameter["name"] for parameter in given if parameter["in"] == "path"}
    given += [
        {"name": name, "in": "path", "required": True, "schema": ID}
        for name in route.param_convertors
        if name not in named
    ]


def _schema(types: tuple[Any, ...]) -> dict[str, Any]:
    for kind in types:
        _types[str(kind)] = kind
    schemas, _ = msgspec.json.schema_components(types, ref_template=_REF)
    return schemas[0] if len(schemas) == 1 else {"oneOf": list(schemas)}
