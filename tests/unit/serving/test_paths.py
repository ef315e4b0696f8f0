"""Routing by the path as it was sent: every id can be spelled in a path, and gets to its own route."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.routing import Match

from infra.settings import Settings
from schemas.control_checks import definitions
from schemas.identity import check_id, check_item_id
from schemas.reject import Rejected
from serving.access.caller import LOCAL
from serving.app import create
from serving.edge import control
from serving.edge.items import put, put_many
from serving.http.paths import NOT_ADDRESSABLE, check_addressable

ROUTES = create(Settings()).routes
TAILS = ("similar", ":link", ":unlink", "/preferences", "/metrics", "/similar", "%2F", "..", "\n")
IDS = st.builds(
    "".join, st.lists(st.sampled_from(TAILS) | st.text(st.characters(codec="utf-8"), max_size=4))
)


def upper(identifier: str) -> str:
    return quote(identifier, "")


def lower(identifier: str) -> str:
    return re.sub("%..", lambda found: found[0].lower(), quote(identifier, ""))


def routed(method: str, raw_path: str) -> tuple[str, dict[str, str]]:
    """The name of the route that the router takes, and the ids of the path."""
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": unquote(raw_path),  # as the server gives it
        "raw_path": raw_path.encode(),
    }
    for route in ROUTES:
        match, found = route.matches(scope)
        if match == Match.FULL:
            return str(found["endpoint"].__name__), found["path_params"]
    return "", {}


@pytest.mark.parametrize("spell", [upper, lower])
@given(identifier=IDS)
@example("a/similar")
@example("a:link")
@example("\ud7ff/\ue000")
def test_an_encoded_id_gets_to_its_route(spell: Callable[[str], str], identifier: str) -> None:
    path = spell(identifier)
    for method, spelled, name in (
        ("GET", f"/v1/items/{path}", "item"),
        ("HEAD", f"/v1/items/{path}", "item"),
        ("PUT", f"/v1/items/{path}", "put_item"),
        ("PATCH", f"/v1/items/{path}", "patch_item"),
        ("DELETE", f"/v1/items/{path}", "delete_item"),
        ("GET", f"/v1/items/{path}/similar", "similar"),
    ):
        assert routed(method, spelled) == (name, {"item_id": identifier})
    for method, end, name in (
        ("PUT", "/preferences", "put_preferences"),
        ("POST", ":link", "post_link"),
        ("POST", ":unlink", "post_unlink"),
    ):
        assert routed(method, f"/v1/users/{path}{end}") == (name, {"user_id": identifier})
    if identifier:
        for method, end, name in (
            ("PUT", "", "put_experiment"),
            ("GET", "/metrics", "experiment_metrics"),
        ):
            found = routed(method, f"/v1/experiments/{path}{end}")
            assert found == (name, {"experiment_id": identifier})
        for method, name in (("PUT", "put_placement"), ("GET", "placement")):
            assert routed(method, f"/v1/placements/{path}") == (name, {"placement": identifier})


def test_a_plain_slash_or_colon_belongs_to_the_route_where_there_is_one() -> None:
    assert routed("GET", "/v1/items/a/similar") == ("similar", {"item_id": "a"})
    assert routed("GET", "/v1/items/a/b:c/d") == ("item", {"item_id": "a/b:c/d"})
    for method in ("PUT", "PATCH", "DELETE"):  # a GET of this path would never find what they wrote
        assert routed(method, "/v1/items/a/similar") == ("", {})
    assert routed("PUT", "/v1/items/a/similar/b") == ("put_item", {"item_id": "a/similar/b"})
    assert routed("PUT", "/v1/items/similar") == ("put_item", {"item_id": "similar"})
    assert routed("POST", "/v1/users/a:link:link") == ("post_link", {"user_id": "a:link"})
    assert routed("GET", "/v1/%69tems/a") == ("item", {"item_id": "a"})
    assert routed("GET", "/v1%2Fitems/a") == ("", {})


@given(IDS)
def test_an_id_that_a_put_takes_is_one_that_a_path_can_hold(identifier: str) -> None:
    try:
        taken = check_addressable(check_item_id(identifier, "item_id"), "item_id")
    except Rejected:
        return
    # what a client makes of a path: dot segments go, encoded ones too
    assert quote(taken, "").replace("%2E", ".") not in (".", "..")
    assert check_id(taken, "item_id") == taken


@pytest.mark.parametrize("identifier", sorted(NOT_ADDRESSABLE))
def test_an_id_that_no_path_can_hold_is_refused(identifier: str) -> None:
    with pytest.raises(Rejected, match="item_id: not_addressable"):
        put(b"{}", identifier, 0, 4)
    done = put_many(
        b'[{"item_id": " %s"}, {"item_id": "a"}]' % identifier.encode(), 0, 4, ndjson=False
    )
    assert [(it.index, it.code) for it in done.rejected] == [(0, "not_addressable")]
    assert len(done.records) == 1
    with pytest.raises(Rejected, match="placement: not_addressable"):
        control.placement(b"{}", identifier, LOCAL, 0)
    with pytest.raises(Rejected, match="experiment_id: not_addressable"):
        control.experiment(b"{}", identifier, definitions({}), LOCAL, 0)
