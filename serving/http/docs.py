"""`/docs`: the API on one page, for people. Made from `/openapi.json`; it loads no other resource."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any, Final

_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title} API</title>
<meta name="viewport" content="width=device-width">
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
h2{{font-size:1rem;margin:2rem 0 .2rem}}code{{background:#8881;padding:.1em .3em}}
td{{padding:.1rem 1rem .1rem 0;vertical-align:top}}p{{margin:.2rem 0}}small{{opacity:.7}}</style>
<h1>{title}</h1><p>{description}</p><p>The same for machines: <a href="/openapi.json">/openapi.json</a></p>
{operations}</html>"""


def page(document: dict[str, Any]) -> str:
    """The page, as HTML, of an OpenAPI `document` (`serving.http.openapi.describe`)."""
    info = document["info"]
    operations = (
        "\n".join(_operation(method, path, operation))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    return _PAGE.format(
        title=escape(info["title"]),
        description=escape(info["description"]),
        operations="\n".join(operations),
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{method.upper()} {escape(path)}</code> {escape(operation['summary'])}</h2>"
    yield f"<p><small>scope {escape(operation['x-scope'])}</small></p>"
    content = operation.get("requestBody", {}).get("content", {})
    for kind, body in content.items():
        yield f"<p>body: {_shape(body['schema'])} <small>({escape(kind)})</small></p>"
    yield "<table>"
    for parameter in operation.get("parameters", ()):
        about = escape(parameter.get("description", ""))
        yield f"<tr><td><code>{escape(parameter['name'])}</code><td>{escape(parameter['in'])}<td>{about}"
    for status, answer in operation["responses"].items():
        shapes = [_shape(body["schema"]) for body in answer.get("content", {}).values()]
        about = escape(answer["description"])
        yield f"<tr><td>{escape(status)}<td>{' '.join(shapes)}<td>{about}"
    yield "</table>"


def _shape(schema: dict[str, Any]) -> str:
    """The names of a schema, or of its alternatives."""
    schemas = schema.get("oneOf") or schema.get("anyOf") or [schema]
    names = [each.get("$ref", "").rpartition("/")[2] or each.get("type", "") for each in schemas]
    return escape(" or ".join(name for name in names if name))
