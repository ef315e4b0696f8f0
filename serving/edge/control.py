"""From the bytes of a placement or an experiment to the change that `control` keeps. Pure: no clock, no
socket."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from schemas.alphabet import Millis
from schemas.control import Change, Experiment, Recipe, Subject
from schemas.control_checks import Definitions, check_experiment, check_fits, check_recipe
from schemas.record import Record
from schemas.reject import Rejected
from serving.decide.columns import COLUMNS
from serving.decide.sources import SOURCES
from serving.http.body import decode

SCORED: Final = frozenset([source.name for source in SOURCES] + [column.name for column in COLUMNS])
"""What a recipe may give a weight: each source, and each column of the score."""
_ENCODE: Final = msgspec.json.Encoder().encode


class _In(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    expected_version: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    actor: Annotated[str, msgspec.Meta(max_length=256)] = ""
    reason: Annotated[str, msgspec.Meta(max_length=1000)] = ""


class PlacementIn(_In, kw_only=True):
    """`expected_version`: of what this replaces, 0 where the placement is new; else it has no effect."""

    recipe: Recipe


class ExperimentIn(_In, kw_only=True):
    """`expected_version`: of what this replaces, 0 where the experiment is new; else it has no effect."""

    experiment: Experiment


_PLACEMENT: Final = msgspec.json.Decoder(PlacementIn)
_EXPERIMENT: Final = msgspec.json.Decoder(ExperimentIn)


def placement(body: bytes, identifier: str, now: Millis) -> Record:
    """Errors: `Problem`, `Rejected`."""
    given = decode(body, _PLACEMENT)
    # only here are the registries known
    if not SCORED.issuperset(given.recipe.weights or ()):
        raise Rejected("recipe.weights", "unknown_source")
    check_recipe(given.recipe, "recipe")
    return _record("placement", identifier, given, given.recipe, now)


def experiment(body: bytes, identifier: str, stands: Definitions, now: Millis) -> Record:
    """`stands`: what is known to hold now. Errors: `Problem`, `Rejected`."""
    given = decode(body, _EXPERIMENT)
    check_experiment(identifier, given.experiment, "experiment")
    check_fits(identifier, given.experiment, stands, "experiment")
    return _record("experiment", identifier, given, given.experiment, now)


def _record(subject: Subject, identifier: str, given: _In, body: Any, now: Millis) -> Record:
    change = Change(
        subject=subject,
        id=identifier,
        expected_version=given.expected_version,
        body=msgspec.Raw(_ENCODE(body)),
        received_at=now,
        actor=given.actor,
        reason=given.reason,
    )
    # one partition: the order of `control` is what compares and sets
    return Record(f"{subject}:{identifier}".encode(), 0, _ENCODE(change))
