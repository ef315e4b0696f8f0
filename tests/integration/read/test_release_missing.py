"""A release that is chosen and cannot be loaded after a restart: every answer that lacks it says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from infra.local import services
from schemas.control import Recipe, Released
from schemas.releases import MANIFEST, VECTORS
from tests.integration.read.test_swap import FIRST, SECOND, make_current, release, serves
from tests.support.http import serving
from tests.support.shops import Shop, opened

PLACEMENTS = {
    "covisited": Recipe(weights={"covisit": 1.0}),
    "in_space": Recipe(weights={"vector": 1.0, "content": 0.1}, ranker=False),
    "no_say": Recipe(weights={"covisit": 1.0}, ranker=False),
}


class Damaged(NamedTuple):
    """How the release's folder is damaged, and the word under which it is refused."""

    damage: Callable[[Path], object]
    why: str


DAMAGE = {
    "corrupt": Damaged(lambda path: (path / VECTORS).write_bytes(_flipped(path)), "corrupt"),
    "cut short": Damaged(lambda path: (path / VECTORS).write_bytes(b""), "cut_short"),
    "no file": Damaged(lambda path: (path / VECTORS).unlink(), "missing"),
    "no folder": Damaged(shutil.rmtree, "missing"),
    "another one": Damaged(
        lambda path: (path / MANIFEST).write_bytes(
            (path.parent / FIRST / MANIFEST).read_bytes().replace(FIRST.encode(), SECOND.encode())
        ),
        "unpublished",
    ),
}


def _flipped(path: Path) -> bytes:
    held = bytearray((path / VECTORS).read_bytes())
    held[-1] ^= 1
    return bytes(held)


@pytest.fixture(scope="module")
def shop(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop whose second release of two serves."""
    home = tmp_path_factory.mktemp("missing")
    with opened(redis_url, broker, home) as found:
        for name, weight in ((FIRST, 1.0), (SECOND, 1000.0)):
            sha = release(found.server.settings.releases, name, weight)
            found.control(f"release:{name}", Released(manifest_sha256=sha))
        for name, recipe in PLACEMENTS.items():
            found.control(f"placement:{name}", recipe)
        make_current(found, SECOND, 1)
        serves(found, SECOND)
        yield found


def fallbacks(shop: Shop) -> dict[str, str | None]:
    """The fallbacks of each kind of read, for a person with actions and for one without."""
    paths = {
        "home": "/v1/recommendations?user_id=u1",
        "similar": "/v1/items/i5/similar",
        "similar to nothing": "/v1/items/nothing/similar",
        "popular": "/v1/popular",
        "placement popular": "/v1/recommendations?user_id=u1&placement=popular",
        "nobody": "/v1/recommendations?anonymous_id=a1",
    }
    paths |= {name: f"/v1/recommendations?user_id=u1&placement={name}" for name in PLACEMENTS}
    return {name: shop.get(path).json["fallback"] for name, path in paths.items()}


@pytest.mark.parametrize("how", DAMAGE)
def test_after_a_restart_an_answer_without_its_release_says_no_model(
    shop: Shop, how: str, tmp_path: Path
) -> None:
    assert set(fallbacks(shop).values()) == {None, "popular"}
    whole, damaged = shop.server.settings.releases / SECOND, DAMAGE[how]
    shutil.copytree(whole, tmp_path / "kept")
    damaged.damage(whole)
    try:
        with serving(shop.server.settings, tmp_path / "log") as again:
            restarted = shop._replace(server=again)
            refused = f'freshet_release_refused_total{{why="{damaged.why}"}} 1'
            services.wait_until(
                lambda: refused in restarted.get("/metrics").body.decode(), 20, "it is not refused"
            )
            assert fallbacks(restarted) == {
                "home": "no_model",
                "similar": "no_model",
                "similar to nothing": "popular",
                "popular": None,
                "placement popular": "popular",
                "nobody": "popular",
                "covisited": "no_model",
                "in_space": "no_model",
                "no_say": None,
            }
            faults = restarted.get("/health/ready").json["degraded"]
            [fault] = [it for it in faults if it["part"] == "releases"]
            assert fault["code"] == "no_model"
            assert SECOND in fault["detail"]
            assert 'freshet_ready{part="releases"} 0' in restarted.get("/metrics").body.decode()
            page = restarted.post({"user_id": "u1", "requests": [{}, {"placement": "no_say"}]})
            assert [row["fallback"] for row in page.json["rows"]] == ["no_model", None]
    finally:
        shutil.rmtree(whole, ignore_errors=True)
        shutil.copytree(tmp_path / "kept", whole)
