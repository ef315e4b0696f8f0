"""Control in process: what each placement serves, which experiments run, which release is current."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeVar

import msgspec

from models.experiments.assignment import assign
from schemas.alphabet import Pseudonym
from schemas.control import (
    HELD_DECODER,
    NEVER,
    Body,
    Experiment,
    Exploration,
    Fatigue,
    Held,
    Recipe,
    Released,
    Repeat,
)
from schemas.control_checks import Definitions, decode_body, definitions
from schemas.events import Assigned
from schemas.reject import Rejected

T = TypeVar("T")

DEFAULT_RECIPE: Final = Recipe()
# one slate in ten explores, in its last slot: one impression in a hundred
HOME_RECIPE: Final = Recipe(exploration=Exploration(epsilon=0.1))
POPULAR_RECIPE: Final = Recipe(weights={"popular": 1.0}, ranker=False)
# a replay of history shows nothing to people: it needs neither fatigue nor exploration. It asks what a
# person chose next among what they had not chosen.
REPLAY_RECIPE: Final = Recipe(fatigue=Fatigue(factor=1.0), repeat=Repeat(view=NEVER, click=NEVER))
BUILT_IN_RECIPES: Final[Mapping[str, Recipe]] = {
    "home": HOME_RECIPE,
    "popular": POPULAR_RECIPE,
    "replay": REPLAY_RECIPE,
}


class PlacedRecipe(NamedTuple):
    """`rules` is ``served_by.rules``: "r0" for a built-in recipe, else control's version; with the name of
    another placement before it where an experiment takes that one's recipe, as in "popular/r3"."""

    recipe: Recipe
    rules: str


# one category may have all of it, and one owner
POPULAR_LIST: Final = PlacedRecipe(
    Recipe(weights={"popular": 1.0}, ranker=False, category_cap=1.0, owner_cap=1.0), "popular1"
)
"""What is popular, the same for every person."""


class Assignment(NamedTuple):
    """What a person gets at a placement. `release`: the id of the release that serves them, "" for none; this
    process may not have loaded it."""

    placed: PlacedRecipe
    experiments: tuple[Assigned, ...]
    release: str


class Control:
    """The state of the topic `control`, and the built-in placements.

    `placements` and `experiments`: those that were put, each with its record. `current`: the release that
    serves people outside of experiments, "" for none. `releases`: the current one and those that running
    experiments name; they must be loaded. `released`: all releases.
    """

    placements: Mapping[str, tuple[Held, Recipe]]
    experiments: Mapping[str, tuple[Held, Experiment]]
    released: Mapping[str, Released]
    current: str
    releases: frozenset[str]
    definitions: Definitions

    def __init__(self) -> None:
        self._held: dict[str, tuple[Held, Body]] = {}
        self._unreadable: dict[str, bytes] = {}
        self.problems: list[str] = []
        """Sentences about records that could not be read; the follower of control logs and clears them."""
        self._derive()

    def placed(self, placement: str) -> PlacedRecipe | None:
        """The recipe of `placement`; None where there is no such placement."""
        found = self.placements.get(placement)
        if found is not None:
            return PlacedRecipe(found[1], f"r{found[0].version}")
        return (
            PlacedRecipe(BUILT_IN_RECIPES[placement], "r0")
            if placement in BUILT_IN_RECIPES
            else None
        )

    def assigned(self, placement: str, person: Pseudonym | None) -> Assignment | None:
        """What `person` gets at `placement`; None where there is no such placement. No person (None) is in no
        experiment."""
        placed = self.placed(placement)
        if placed is None:
            return None
        plain = Assignment(placed, (), self.current)
        identifier = self._running.get(placement)
        if identifier is None or person is None:
            return plain
        held, experiment = self.experiments[identifier]
        variant = assign(identifier, experiment, person)
        if variant is None:
            return plain
        if variant.placement:
            borrowed = self.placed(variant.placement)
            if borrowed is None:  # it could not be read, so the person gets the plain recipe
                return plain
            placed = PlacedRecipe(borrowed.recipe, f"{variant.placement}/{borrowed.rules}")
        assigned = Assigned(identifier, held.version, variant.name)
        return Assignment(placed, (assigned,), variant.release or self.current)

    def put(self, name: str, value: bytes) -> None:
        """Takes a record of the topic; `name` is ``subject:id``, and an empty `value` deletes. A record that
        cannot be read changes nothing, and is reported once (`problems`)."""
        if value:
            found = self._decode(name, value)
            if found is None:
                return
            self._held[name] = found
        else:
            self._held.pop(name, None)
        self._derive()

    def replace(self, state: Mapping[str, bytes]) -> None:
        """Takes the whole state of the topic; a record that cannot be read keeps the one before it."""
        before = self._held
        found = {
            name: self._decode(name, value) or before.get(name) for name, value in state.items()
        }
        self._held = {name: held for name, held in found.items() if held is not None}
        self._derive()

    def _decode(self, name: str, value: bytes) -> tuple[Held, Body] | None:
        subject, _, identifier = name.partition(":")
        try:
            held = HELD_DECODER.decode(value)
            return held, decode_body(subject, identifier, held.body.encode())
        except (msgspec.MsgspecError, UnicodeDecodeError, Rejected) as error:
            if self._unreadable.get(name) != value:
                self._unreadable[name] = value
                why = str(error) if isinstance(error, Rejected) else type(error).__name__
                self.problems.append(
                    f"a record of {subject} cannot be read and is skipped ({why}): put it again"
                )
            return None

    def _derive(self) -> None:
        bodies = {name: body for name, (_, body) in self._held.items()}
        self.definitions = definitions(bodies)
        self.placements = self._records_of("placement", Recipe)
        self.experiments = self._records_of("experiment", Experiment)
        self.released = {
            name: body for name, (_, body) in self._records_of("release", Released).items()
        }
        self.current = self.definitions.current
        running = {name: e for name, (_, e) in sorted(self.experiments.items()) if e.running}
        # of two on one placement, which the fold never allows, the first by id
        self._running = {e.placement: name for name, e in reversed(running.items())}
        named = {v.release for e in running.values() for v in e.variants}
        self.releases = frozenset({self.current, *named} - {""})

    def _records_of(self, subject: str, kind: type[T]) -> dict[str, tuple[Held, T]]:
        start = f"{subject}:"
        return {
            name.removeprefix(start): (held, body)
            for name, (held, body) in self._held.items()
            if name.startswith(start) and isinstance(body, kind)
        }
