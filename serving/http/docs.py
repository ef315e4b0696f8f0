"""`/docs`: the API on one page, for people, who try its calls there. Made from `/openapi.json`; it loads no
other resource."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from serving.http.docs_script import SCRIPT, STYLE

_PAGE: Final = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} API</title>
<meta name="viewport" content="width=device-width"><style>{style}</style></head><body>
<h1>{title}</h1><p>{description}</p><p>The same for machines: <a href="/openapi.json">/openapi.json</a></p>
<section id="access">{access}</section>
{operations}
<script>{script}</script></body></html>"""
_TOKEN: Final = """<label>Access token, kept for this tab alone and sent as <code>Authorization: Bearer</code>
<input id="token" type="password" autocomplete="off" spellcheck="false" placeholder="eyJ…"></label>"""
_NO_TOKEN: Final = "<p>FRESHET_AUTH=off: this server asks nobody for a token.</p>"


def _hashed(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_hashed(STYLE)}; script-src {_hashed(SCRIPT)}; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""Of the page: only its own style and script, by their hashes, and requests of its own origin."""


def page(document: dict[str, Any], *, open_to_all: bool, token_file: str = "") -> str:
    """The page, as HTML, of an OpenAPI `document` (`serving.http.openapi.describe`). `open_to_all`: no token
    is asked for. `token_file`: where one lies, for who may know."""
    info = document["info"]
    where = (
        f"<p>Yours is in <code>{escape(token_file)}</code>: <code>cat</code> it and paste it.</p>"
    )
    return _PAGE.format(
        title=escape(info["title"]),
        description=escape(info["description"]),
        style=STYLE,
        script=SCRIPT,
        access=_NO_TOKEN if open_to_all else _TOKEN + (where if token_file else ""),
        operations="\n".join(_operations(document)),
    )


def _operations(document: dict[str, Any]) -> Iterator[str]:
    """Every operation, under its tag."""
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2><p>{escape(tag['description'])}</p>"
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    yield "".join(_operation(method.upper(), path, operation, document))


def _operation(
    method: str, path: str, operation: dict[str, Any], document: dict[str, Any]
) -> Iterator[str]:
    yield f'<details id="{escape(operation["operationId"])}"><summary><span class="method">{method}</span>'
    yield f"<code>{escape(path)}</code> {escape(operation['summary'])}</summary>"
    yield f"<p><small>scope {escape(operation['x-scope'])}</small></p>"
    yield f"<p>{escape(operation.get('description', ''))}</p>"
    yield f'<form data-method="{method}" data-path="{escape(path)}"><table>'
    for parameter in operation.get("parameters", ()):
        yield _parameter(parameter)
    yield "</table>"
    yield from _body(operation, document)
    yield "<button>Try it</button><output></output></form><table>"
    for status, answer in operation["responses"].items():
        shapes = [_shape(body["schema"]) for body in answer.get("content", {}).values()]
        about = escape(answer["description"])
        yield f"<tr><td>{escape(status)}<td>{' '.join(shapes)}<td>{about}</tr>"
    yield "</table></details>"


def _parameter(parameter: dict[str, Any]) -> str:
    name, place, schema = escape(parameter["name"]), escape(parameter["in"]), parameter["schema"]
    many = ' data-many="yes"' if schema.get("type") == "array" else ""
    needed = " required" if parameter["required"] else ""
    return (
        f"<tr><td><code>{name}</code><br><small>{place}</small><td>{escape(_takes(schema))}<br>"
        f"<small>{escape(parameter.get('description', ''))}</small>"
        f'<td><input name="{name}" aria-label="{name}" data-in="{place}"{many}{needed}></tr>'
    )


def _body(operation: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    """The field for the body of a try, with its example, and the fields of the types that it takes."""
    body = operation.get("requestBody")
    if body is None:
        return
    content = body["content"]
    example = json.dumps(content["application/json"].get("example", {}), indent=2)
    yield f"<p>body: <small>{escape(', '.join(content))}. {escape(body['description'])}</small></p>"
    yield f'<textarea aria-label="body">{escape(example)}</textarea>'
    for name in _named(content["application/json"]["schema"]):
        kind = document["components"]["schemas"][name]
        yield f"<details><summary><code>{escape(name)}</code></summary>"
        yield f"<p><small>{escape(kind.get('description', ''))}</small></p><table>"
        for field, schema in kind["properties"].items():
            needed = "required" if field in kind.get("required", ()) else ""
            about = escape(schema.get("description", ""))
            yield f"<tr><td><code>{escape(field)}</code><td>{escape(_takes(schema))}<td>{needed} {about}</tr>"
        yield "</table></details>"


def _named(schema: dict[str, Any]) -> list[str]:
    """The names of the types in a schema."""
    alternatives = schema.get("oneOf") or schema.get("anyOf") or [schema]
    references = (
        each.get("$ref") or each.get("items", {}).get("$ref", "") for each in alternatives
    )
    return list(dict.fromkeys(name for it in references if (name := it.rpartition("/")[2])))


def _takes(schema: dict[str, Any]) -> str:
    """What a field takes, in short: its type and bounds."""
    if "anyOf" in schema and "properties" not in schema:
        return " or ".join(dict.fromkeys(filter(None, map(_takes, schema["anyOf"]))))
    if "enum" in schema:
        shown = [str(each) for each in schema["enum"][:20]]
        return "one of " + ", ".join(shown) + (", …" if len(schema["enum"]) > 20 else "")
    kind = schema.get("$ref", "").rpartition("/")[2] or str(
        schema.get("format") or schema.get("type", "")
    )
    if kind == "array":
        kind = f"list of {_takes(schema.get('items', {})) or 'anything'}"
    bounds = [f"{word} {schema[name]}" for name, word in _BOUNDS.items() if name in schema]
    return " ".join([kind, *bounds])


_BOUNDS: Final = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "minLength": "of at least",
    "maxLength": "of at most",
    "minItems": "of at least",
    "maxItems": "of at most",
    "default": "· default",
}


def _shape(schema: dict[str, Any]) -> str:
    """The names of a schema, or of its alternatives."""
    schemas = schema.get("oneOf") or schema.get("anyOf") or [schema]
    names = [each.get("$ref", "").rpartition("/")[2] or each.get("type", "") for each in schemas]
    return escape(" or ".join(name for name in names if name))
