"""Recipes in process: what each placement serves, and under which version."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from schemas.control import Fatigue, Held, Recipe

_HELD: Final = msgspec.json.Decoder(Held)
_RECIPE: Final = msgspec.json.Decoder(Recipe)
_LOG: Final = logging.getLogger(__name__)

DEFAULT: Final = Recipe()
# a replay of history shows nothing to anybody, so nobody tires of it and nothing is to be explored
REPLAY: Final = Recipe(fatigue=Fatigue(factor=1.0))
BUILT_IN: Final[Mapping[str, Recipe]] = {"home": DEFAULT, "replay": REPLAY}


class Placed(NamedTuple):
    """`rules` is ``served_by.rules``: "r0" for what is built in, else control's version."""

    recipe: Recipe
    rules: str


class Control:
    """Placement -> recipe: those that control holds, else the built-in ones."""

    def __init__(self) -> None:
        self._held: dict[str, Placed] = {}

    def placed(self, placement: str) -> Placed | None:
        """None where there is no such placement."""
        found = self._held.get(placement)
        if found is None and placement in BUILT_IN:
            return Placed(BUILT_IN[placement], "r0")
        return found

    def put(self, name: str, value: bytes) -> None:
        """`name` is ``subject:id``. What can't be read leaves what held before, and is logged."""
        subject, _, identifier = name.partition(":")
        if subject != "placement":
            return
        if not value:
            self._held.pop(identifier, None)
            return
        try:
            held = _HELD.decode(value)
            recipe = _RECIPE.decode(held.body)
        except msgspec.MsgspecError as error:
            _LOG.warning("a placement's record was left out: %s", type(error).__name__)
            return
        self._held[identifier] = Placed(recipe, f"r{held.version}")

    def replace(self, state: Mapping[str, bytes]) -> None:
        self._held.clear()
        for name, value in state.items():
            self.put(name, value)
