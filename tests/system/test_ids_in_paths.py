"""Every id of an item can be put, read and deleted under its path, also one that looks like a route."""

from __future__ import annotations

from functools import partial
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from infra.local.services import wait_until
from infra.local.system import System
from schemas.identity import check_item_id
from schemas.reject import Rejected
from serving.http.paths import check_addressable
from tests.system.test_items_after_events import ask

pytestmark = [pytest.mark.check, pytest.mark.timeout(300)]
PIECES = st.sampled_from(
    ["/", ":", "similar", "/similar", ":link", "..", "%2F", "?", "#", "+", " "]
)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)


def spelled(text: str) -> str:
    """The id that the text spells, "" where it is none."""
    try:
        return check_addressable(check_item_id(text, "item_id"), "item_id")
    except Rejected:
        return ""


IDS = st.lists(
    st.lists(PIECES | TEXTS, min_size=1, max_size=4).map("".join).map(spelled).filter(bool)
)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ids=IDS)
@example(ids=["a", "a/similar", "a/similar/similar", "a:link", "/", "...", "%2F", "a/../b"])
def test_an_id_goes_round(system: System, ids: list[str]) -> None:
    paths = {name: f"/v1/items/{quote(name, '')}" for name in ids}
    for name, path in paths.items():
        ask(system, "PUT", path, {"title": name})
    for name, path in paths.items():
        wait_until(partial(there, system, path), 30, "it is not there")
        item = ask(system, "GET", path)
        assert (item["item_id"], item["title"]) == (name, name)
        assert ask(system, "GET", f"{path}/similar")["placement"] == "similar"
    for path in paths.values():
        ask(system, "DELETE", path)
    for path in paths.values():
        wait_until(lambda path=path: not there(system, path), 30, "it is still there")  # type: ignore[misc]


def there(system: System, path: str) -> bool:
    try:
        ask(system, "GET", path)
    except AssertionError as refused:
        if b"unknown_item" in refused.args[0]:
            return False
        raise
    return True
