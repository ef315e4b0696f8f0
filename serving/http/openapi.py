"""`/openapi.json`, made from the msgspec types that read the requests, so that the two can't differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from schemas.access.scopes import SCOPES
from serving.http.codings import CODINGS
from serving.http.errors import ProblemBody
from serving.http.guard import Guarded
from serving.http.head import OPEN
from serving.http.media import JSON, NDJSON
from serving.http.registry import ID, definitions, schema_of

_MEANING: Final = {
    400: "The body can't be read",
    401: "No valid token",
    403: "Not allowed",
    404: "There is no such thing",
    408: "The head or the body came too slowly",
    413: "Too large",
    414: "The request line is too long; a body takes more",
    415: "Another media type, charset or coding; `Accept` or `Accept-Encoding` names those that are taken",
    421: "This server does not answer to the host that the request names",
    422: "A field can't be taken; `errors` names it",
    429: "This address has too many connections; retry after `Retry-After`",
    431: "The headers are too large, or too many",
    501: "A Transfer-Encoding other than chunked",
    503: "Nothing durable took it, or too much is read; retry with the same ids after `Retry-After`",
}
_IN_UTF8: Final = (
    f"UTF-8, as it is or with the Content-Encoding {CODINGS}; at most 1 MiB, inflated too. A key is once in"
    " an object (code repeated; where the server runs without its kernel, the last one counts)."
)


def body(*types: Any, description: str = "", ndjson: bool = False) -> dict[str, Any]:
    """`openapi_extra` of a route that reads a JSON body of one of `types`."""
    content = {JSON: {"schema": schema_of(*types)}}
    if ndjson:
        content |= {name: {"schema": schema_of(*types[:1])} for name in NDJSON}
    about = f"{description} {_IN_UTF8}".strip()
    return {"requestBody": {"required": True, "description": about, "content": content}}


def parameters(*declared: tuple[str, str, dict[str, Any], str]) -> dict[str, Any]:
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
            for name, place, schema, description in declared
        ]
    }


def answers(ok: int, kind: Any, *problems: int, description: str = "Done") -> dict[int | str, Any]:
    """`responses` of a route: its answer (of `kind`, one type or a tuple of alternatives), and its problems
    by status."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    responses: dict[int | str, Any] = {
        ok: {
            "description": description,
            "content": {"application/json": {"schema": schema_of(*kinds)}},
        }
    }
    for status in problems:
        responses[status] = _problem(status)
    return responses


def merged(*extras: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for extra in extras for name, value in extra.items()}


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole OpenAPI document of `app`, made once. Every operation has its scope under ``security``."""
    if app.openapi_schema is None:
        app.openapi_schema = _describe(app)
    return app.openapi_schema


def _describe(app: FastAPI) -> dict[str, Any]:
    document: dict[str, Any] = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(definitions())
    scopes = "; ".join(f"{scope}: {what}" for scope, what in SCOPES.items())
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": f"Scopes. {scopes}."}
    }
    for route in app.routes:
        if not isinstance(route, Guarded) or not route.include_in_schema:
            continue
        for method in route.methods or ():
            operation = document["paths"][route.path_format][method.lower()]
            _add_path_parameters(route, operation)
            operation["responses"] |= _refusals("requestBody" in operation)
            operation["x-scope"] = route.scope
            operation["security"] = [] if route.scope == OPEN else [{"bearer": [route.scope]}]
    return document


def _refusals(reads_body: bool) -> dict[str, Any]:
    """The problems of every route, and of every one that reads a body."""
    statuses = (408, 414, 415, 421, 429, 431, 501) if reads_body else (408, 414, 421, 429, 431)
    return {str(status): _problem(status) for status in statuses}


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": _MEANING[status],
        "content": {"application/problem+json": {"schema": schema_of(ProblemBody)}},
    }


def _add_path_parameters(route: Guarded, operation: dict[str, Any]) -> None:
    declared = operation.setdefault("parameters", [])
    named = {parameter["name"] for parameter in declared if parameter["in"] == "path"}
    declared += [
        {"name": name, "in": "path", "required": True, "schema": ID}
        for name in route.param_convertors
        if name not in named
    ]
