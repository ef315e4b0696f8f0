"""The recipes of the demo's shop: a film that one has watched is watched, so nothing comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from infra.apps.demo.wait import everywhere
from infra.client.client import Client
from schemas.control import NEVER, Recipe, Repeat
from serving.world.placements import BUILT_IN_RECIPES

_WATCHED: Final = Repeat(view=NEVER, click=NEVER)
RECIPES: Final[Mapping[str, Recipe]] = {
    placement: replace(BUILT_IN_RECIPES[placement], repeat=_WATCHED)
    for placement in ("home", "popular")
}
"""By placement: the built-in ones, but for `repeat`."""
BUILT_IN_RULES: Final = "r0"
"""What an answer names where no recipe was put."""


async def put(url: str, token: str) -> None:
    """Puts the recipes, and returns when every worker has them. Errors: `NotEverywhere`, `ApiError`."""
    async with Client(url, token, connections=1) as client:
        for placement, recipe in RECIPES.items():
            await client.put_placement(placement, recipe)
    await everywhere(url, token, _in_force, "a recipe of the demo")


async def _in_force(client: Client) -> bool:
    slates = [
        await client.recommendations("demo", placement=placement, count=1) for placement in RECIPES
    ]
    return all(slate.value.served_by.rules != BUILT_IN_RULES for slate in slates)
