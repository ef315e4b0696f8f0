"""`/openapi.json`, made from the msgspec types that read the requests, so that the two can't differ."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from schemas.access.scopes import SCOPES
from schemas.api.patterns import ID
from serving.http.codings import CODINGS
from serving.http.errors import ProblemBody
from serving.http.guard import Guarded
from serving.http.head import OPEN
from serving.http.media import JSON, NDJSON
from serving.http.registry import definitions, schema_of

_MEANING: Final = {
    400: "The request or its body can't be read",
    401: "No valid access token; `WWW-Authenticate` says where to get one",
    403: "The token's scopes do not cover this, or its page is of another origin",
    404: "There is no such thing",
    408: "The head or the body came too slowly",
    413: "Too large",
    414: "The request line is too long; a body takes more",
    415: "Another media type, charset or coding; `Accept` or `Accept-Encoding` names those that are taken",
    421: "This server does not answer to the host that the request names",
    422: "A field can't be taken; `errors` names it",
    429: "This address has too many connections; retry after `Retry-After`",
    431: "The headers are too large, or too many",
    500: "A fault of the server; it has been logged",
    501: "A Transfer-Encoding other than chunked",
    503: "Nothing durable took it, or too much is read; retry with the same ids after `Retry-After`",
}
_RETRY: Final = {"Retry-After": "Seconds"}
_LIMITED: Final = {
    "Retry-After": "Seconds; none where the request alone is more than the limit",
    "RateLimit": "What remains (draft-ietf-httpapi-ratelimit-headers-10)",
    "RateLimit-Policy": "The limit",
}
_HEADERS: Final = {
    401: {"WWW-Authenticate": "A challenge of RFC 6750, with `resource_metadata` (RFC 9728)"},
    429: _LIMITED,
    503: _RETRY,
}


def _header(about: str) -> dict[str, Any]:
    return {"description": about, "schema": {"type": "string"}}


_REQUEST_ID: Final = {"X-Request-Id": _header("That of the request where it had a valid one")}
_IN_UTF8: Final = (
    f"UTF-8, as it is or with the Content-Encoding {CODINGS}; at most 1 MiB, inflated too. A key is once in"
    " an object (code repeated; where the server runs without its kernel, the last one counts); a"
    " whole number has no point."
)


def body(
    *types: Any, description: str = "", ndjson: bool = False, example: Any = None
) -> dict[str, Any]:
    """`openapi_extra` of a route that reads a JSON body of one of `types`. `example`: one that it takes."""
    content: dict[str, Any] = {JSON: {"schema": schema_of(*types)}}
    if example is not None:
        content[JSON]["example"] = example
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
                **({"allowEmptyValue": True} if place == "query" else {}),
                "schema": schema,
                "description": description,
            }
            for name, place, schema, description in declared
        ]
    }


def plain(media_type: str, schema: Mapping[str, Any] | None = None) -> dict[int | str, Any]:
    """`responses` of a route whose answer is no type of ours: a text, unless `schema` says otherwise."""
    return {
        200: {
            "description": "Done",
            "content": {media_type: {"schema": schema or {"type": "string"}}},
        }
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
    document["servers"] = [{"url": "/", "description": "This server"}]
    document["tags"] = list(_tags(app))
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
            operation["operationId"], operation["tags"] = route.endpoint.__name__, [_tag(route)]
            _add_path_parameters(route, operation)
            operation["responses"] = _responses(route, "requestBody" in operation)
            operation["x-scope"] = route.scope
            operation["security"] = [] if route.scope == OPEN else [{"bearer": [route.scope]}]
    return document


def _tag(route: Guarded) -> str:
    return route.endpoint.__module__.rpartition(".")[2]


def _tags(app: FastAPI) -> Iterator[dict[str, str]]:
    """A tag for each file of routes, with the first line of its docstring."""
    routes = [it for it in app.routes if isinstance(it, Guarded) and it.include_in_schema]
    for module in dict.fromkeys(route.endpoint.__module__ for route in routes):
        about = (sys.modules[module].__doc__ or "").partition("\n")[0]
        yield {"name": module.rpartition(".")[2], "description": about}


def _responses(route: Guarded, reads_body: bool) -> dict[str, Any]:
    """Those that the route declares, the problems of every route, and those of one that needs a token or
    reads a body."""
    every = {400, 408, 414, 421, 429, 431, 500, 503}
    of_token: set[int] = set() if route.scope == OPEN else {401, 403}
    of_body: set[int] = {413, 415, 501} if reads_body else set()
    found = {str(status): _problem(status) for status in every | of_token | of_body}
    found |= {str(status): it for status, it in route.responses.items()}
    for answer in found.values():
        answer["headers"] = {**_REQUEST_ID, **answer.get("headers", {})}
    return dict(sorted(found.items()))


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": _MEANING[status],
        "headers": {name: _header(about) for name, about in _HEADERS.get(status, {}).items()},
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
