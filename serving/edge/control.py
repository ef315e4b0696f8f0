"""From the bytes of a placement or an experiment to the record of `control`. Pure: no clock, no socket."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from schemas.alphabet import Millis
from schemas.control import Change, Experiment, Recipe, Subject
from schemas.control_checks import Definitions, check_experiment, check_fits, check_recipe
from schemas.record import Record
from schemas.reject import Rejected
from serving.access.caller import Caller
from serving.decide.columns import COLUMNS
from serving.decide.sources import SOURCES
from serving.http.body import check_keys, decode
from serving.http.paths import check_addressable
from serving.http.registry import refine, take_null

SCORED: Final = frozenset([source.name for source in SOURCES] + [column.name for column in COLUMNS])
"""The names that a recipe may weight: each source, and each column of the score."""
_ENCODE: Final = msgspec.json.Encoder().encode
refine("Recipe", "weights", propertyNames={"enum": sorted(SCORED)})
take_null("PlacementIn", "ExperimentIn", "Recipe", "Fatigue", "Exploration", "Repeat", "Filter")
take_null("Experiment", "Variant")
_LISTS: Final = ("categories", "types", "tags", "owners")
refine(
    "Filter",
    anyOf=[
        *(
            {"required": [name], "properties": {name: {"type": "array", "minItems": 1}}}
            for name in _LISTS
        ),
        {
            "required": ["published_within_days"],
            "properties": {"published_within_days": {"type": "number"}},
        },
    ],
)


class _In(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    expected_version: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    actor: Annotated[str, msgspec.Meta(max_length=256)] = ""
    reason: Annotated[str, msgspec.Meta(max_length=1000)] = ""


class PlacementIn(_In, kw_only=True):
    """`expected_version`: the version of the placement that this replaces, 0 where it is new. With another
    version the request has no effect."""

    recipe: Recipe


class ExperimentIn(_In, kw_only=True):
    """`expected_version`: the version of the experiment that this replaces, 0 where it is new. With another
    version the request has no effect."""

    experiment: Experiment


_PLACEMENT: Final = msgspec.json.Decoder(PlacementIn)
_EXPERIMENT: Final = msgspec.json.Decoder(ExperimentIn)


def placement(body: bytes, identifier: str, caller: Caller, now: Millis) -> Record:
    """The record of a placement. Errors: `Problem`, `Rejected`."""
    check_addressable(identifier, "placement")
    parsed = decode(_without_nulls(body), _PLACEMENT)
    # here and not in `check_recipe`: `schemas` does not import the registries
    if not SCORED.issuperset(parsed.recipe.weights or ()):
        taken = f"recipe.weights takes the names {', '.join(sorted(SCORED))}."
        raise Rejected("recipe.weights", "unknown_source", taken)
    check_recipe(parsed.recipe, "recipe")
    return _record("placement", identifier, parsed, parsed.recipe, caller, now)


def experiment(
    body: bytes, identifier: str, in_force: Definitions, caller: Caller, now: Millis
) -> Record:
    """The record of an experiment. `in_force`: the definitions that hold now. Errors: `Problem`,
    `Rejected`."""
    check_addressable(identifier, "experiment_id")
    parsed = decode(_without_nulls(body), _EXPERIMENT)
    check_experiment(identifier, parsed.experiment, "experiment")
    check_fits(identifier, parsed.experiment, in_force, "experiment")
    return _record("experiment", identifier, parsed, parsed.experiment, caller, now)


def _without_nulls(body: bytes) -> bytes:
    """The body without the fields that are null, at any depth: null is not said. A body that is no JSON stays
    as it is. Errors: `Rejected` for a key that is there twice."""
    if b"null" not in body:
        return body
    check_keys(body)
    try:
        return _ENCODE(_given(msgspec.json.decode(body)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body


def _given(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _given(each) for name, each in value.items() if each is not None}
    return [_given(each) for each in value] if isinstance(value, list) else value


def _actor(given: str, caller: Caller) -> str:
    """Who changes it, as the token says; where that names nobody, as the request does. Errors: `Rejected`."""
    if caller.is_shared:
        return given or caller.name
    if given not in ("", caller.name):
        raise Rejected("actor", "not_own", "The token names the actor: leave actor out.")
    return caller.name


def _record(
    subject: Subject, identifier: str, parsed: _In, body: Any, caller: Caller, now: Millis
) -> Record:
    change = Change(
        subject=subject,
        id=identifier,
        expected_version=parsed.expected_version,
        body=msgspec.Raw(_ENCODE(body)),
        received_at=now,
        actor=_actor(parsed.actor, caller),
        reason=parsed.reason,
    )
    # one partition: changes are compared and set in the order of `control`
    return Record(f"{subject}:{identifier}".encode(), 0, _ENCODE(change))
