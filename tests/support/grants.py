"""Who may do what, as a table: every route, by every kind of token, for oneself and for somebody else."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from fastapi import FastAPI

from infra import tokens
from infra.settings import Settings
from schemas.access.scopes import ANYBODY, BROWSER, SCOPES
from serving.http.guard import Guarded
from serving.http.head import OPEN

SHOP = "https://shop.example"
OWN, OTHER, VISITOR = "u1", "u2", "a1"
READ, WRITE = "rec:read", "events:write"


class Role(NamedTuple):
    """A kind of token. `scopes`: what it has; None: it is not valid."""

    header: str
    scopes: frozenset[str] | None
    user_id: str = ""
    anonymous_id: str = ""
    origin: str = ""


class Call(NamedTuple):
    """A request to a route, for a person or without one. `scopes`: what it needs beside the route's own."""

    method: str
    path: str
    body: Any = None
    user_id: str = ""
    anonymous_id: str = ""
    scopes: tuple[str, ...] = ()


def roles(settings: Settings) -> dict[str, Role]:
    def bearer(scopes: Any, **named: Any) -> str:
        return f"Bearer {tokens.make_token(settings, scopes, **{'minutes': 5, **named})}"

    found = {
        "nobody": Role("", None),
        "no JWT": Role("Bearer nonsense", None),
        "expired": Role(bearer(SCOPES, now=time.time() - 3600), None),
        "everything": Role(bearer(SCOPES), frozenset(SCOPES)),
        "nothing": Role(bearer(()), frozenset()),
        "nothing known": Role(bearer(("admin", "read")), frozenset()),
        "a user": Role(bearer(BROWSER, subject=OWN), BROWSER, OWN),
        "a visitor": Role(
            bearer(SCOPES, anonymous_id=VISITOR, origin=SHOP), BROWSER, "", VISITOR, SHOP
        ),
    }
    alone = {name: Role(bearer((name,)), frozenset({name})) for name in SCOPES}
    return found | alone


def calls() -> list[Call]:
    """Each route, the hot ways included, for each kind of person."""
    own, other = {"user_id": OWN}, {"user_id": OTHER}
    view = {"item_id": "i1", "action": "view"}
    recommend, events = "/v1/recommendations", "/v1/events"
    found = [
        Call("GET", "/health/live"),
        Call("GET", "/health/ready"),
        Call("GET", "/.well-known/oauth-protected-resource"),
        Call("GET", "/docs"),
        Call("GET", "/openapi.json"),
        Call("GET", "/metrics"),
        Call("GET", "/v1/status"),
        Call("GET", "/v1/popular"),
        Call("GET", "/v1/items/i1"),
        Call("GET", "/v1/items/i1/similar"),
        Call("POST", "/v1/items", {"item_id": "i1", "title": "T"}),
        Call("PUT", "/v1/items/i1", {"title": "T"}),
        Call("PATCH", "/v1/items/i1", {"title": "T"}),
        Call("DELETE", "/v1/items/i2"),
        Call("GET", "/v1/placements"),
        Call("GET", "/v1/placements/home"),
        Call("PUT", "/v1/placements/p1", {"expected_version": 0, "recipe": {}}),
        Call("GET", "/v1/experiments"),
        Call("GET", "/v1/experiments/e1"),
        Call("GET", "/v1/experiments/e1/metrics"),
        Call("PUT", "/v1/experiments/e1", {"expected_version": 0}),
        Call("POST", "/v1/tokens", {"anonymous_id": VISITOR, "origin": SHOP}),
        Call("POST", f"{events}?mode=import", {**own, **view}, OWN, scopes=("import",)),
        Call("POST", recommend, {**own, "explain": "full"}, OWN, scopes=("explain",)),
        Call("POST", recommend, {"requests": [own, other]}, OTHER),
        Call("POST", recommend, {"requests": [own, own]}, OWN),
        Call("POST", events, {"events": [{**own, **view}, {**other, **view}]}, OTHER),
        Call("GET", f"{recommend}?user_id={OWN}&now=2026-01-01T00:00:00Z", None, OWN, "", ("import",)),
    ]  # fmt: skip
    for user in (OWN, OTHER):
        path = f"/v1/users/{user}"
        found += [
            Call("PUT", f"{path}/preferences", {}, user),
            Call("POST", f"{path}:unlink", {"anonymous_id": VISITOR}, user),
        ]
    people = (
        ("user_id", OWN),
        ("user_id", OTHER),
        ("anonymous_id", VISITOR),
        ("anonymous_id", "a2"),
    )
    for field, name in people:
        person: dict[str, Any] = {field: name}
        found += [
            Call("GET", f"{recommend}?{field}={name}", None, **person),
            Call("POST", recommend, person, **person),
            Call("POST", events, {**person, **view}, **person),
            Call("POST", events, {"events": [{**person, **view}]}, **person),
        ]  # fmt: skip
    return found


def expected(role: Role, call: Call, scope: str) -> int | None:
    """The status that refuses; None: the caller is admitted."""
    if scope == OPEN:
        return None
    if role.scopes is None:
        return 401
    has = role.scopes | {own for own, anybody in ANYBODY.items() if anybody in role.scopes}
    if not {scope, *call.scopes} <= has:
        return 403
    if not (call.user_id or call.anonymous_id) or ANYBODY[scope] in role.scopes:
        return None
    is_own = (call.user_id, call.anonymous_id) == (role.user_id, role.anonymous_id)
    return None if is_own else 403


def route_of(app: FastAPI, call: Call) -> Guarded:
    path = call.path.partition("?")[0]
    found = [
        route
        for route in app.routes
        if isinstance(route, Guarded)
        and call.method in route.taken
        and route.path_regex.match(path)
    ]
    return found[0]
