"""What `control` takes: the limits of each body, and how it must fit the definitions in force.

The edge checks before it writes and the fold before it applies, by the same functions: the fold refuses an
accepted change only where another change came first. Pure; all raise `Rejected`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec

from schemas.control import (
    BUILT_IN,
    CURRENT,
    DURATION,
    MAX_DEPTH,
    MAX_FILTERS,
    MAX_LIST_ENTRIES,
    MAX_REPEAT_MS,
    MAX_VARIANTS,
    MAX_WEIGHT,
    MIN_SHARE,
    MIN_VARIANTS,
    NEVER,
    RELEASE_ID,
    Body,
    Current,
    Experiment,
    Filter,
    Recipe,
    Released,
    Repeat,
    Variant,
    duration_ms,
    release_order,
)
from schemas.identity import check_text
from schemas.reject import Rejected, from_validation
from schemas.times import DAY_MS

_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")
# travels in a header, between ";", "=" and ","
_TOKEN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def check_recipe(recipe: Recipe, prefix: str = "") -> None:
    """`prefix` precedes each field in an error, as ``recipe`` in ``recipe.exploration.epsilon``."""
    with _prefixed(prefix):
        _check_weights(recipe.weights)
        _check(0 < recipe.category_cap <= 1, "category_cap")
        _check(0 < recipe.owner_cap <= 1, "owner_cap")
        _check(0 <= recipe.fresh_days <= 3650, "fresh_days")
        _check(0 < recipe.fatigue.factor <= 1, "fatigue.factor")
        # from seconds to a century: an age over it stays a number
        _check(1e-3 <= recipe.fatigue.half_life_hours <= 1e6, "fatigue.half_life_hours")
        _check(0 <= recipe.exploration.epsilon <= 1, "exploration.epsilon")
        _check_repeat(recipe.repeat)
        _check(1 <= recipe.depth <= MAX_DEPTH, "depth")
        _check(len(recipe.filters) <= MAX_FILTERS, "filters", "too_many")
        for name, each in recipe.filters.items():
            _check(_NAME.fullmatch(name) is not None, "filters", "malformed")
            _check(each != Filter(), f"filters.{name}", "empty")
            with _prefixed(f"filters.{name}"):
                _check_filter(each)


def _check_repeat(repeat: Repeat) -> None:
    for field in ("view", "click", "purchase"):
        text: str = getattr(repeat, field)
        valid = text == NEVER or DURATION.fullmatch(text) is not None
        _check(valid, f"repeat.{field}", "not_a_duration")
        if (duration_ms(text) or 0) > MAX_REPEAT_MS:
            days = MAX_REPEAT_MS // DAY_MS
            raise Rejected(f"repeat.{field}", "out_of_range", f"{field} takes {days}d at most.")


def _check_weights(weights: Mapping[str, float] | None) -> None:
    if weights is None:
        return
    _check(len(weights) > 0, "weights", "empty")
    _check(len(weights) <= MAX_LIST_ENTRIES, "weights", "too_many")
    for name, weight in weights.items():
        _check(_NAME.fullmatch(name) is not None, "weights", "malformed")
        _check(abs(weight) <= MAX_WEIGHT, f"weights.{name}")


def _check_filter(filter_: Filter) -> None:
    for field in ("categories", "types", "tags", "owners"):
        entries: Sequence[str] = getattr(filter_, field)
        _check(len(entries) <= MAX_LIST_ENTRIES, field, "too_many")
        for n, entry in enumerate(entries):
            check_text(entry, f"{field}[{n}]")
    days = filter_.published_within_days
    _check(days is None or 0 < days <= 36_500, "published_within_days")


def check_experiment(identifier: str, experiment: Experiment, prefix: str = "") -> None:
    """`identifier` is reported as ``experiment_id``, without the prefix."""
    _check(_TOKEN.fullmatch(identifier) is not None, "experiment_id", "malformed")
    variants = experiment.variants
    with _prefixed(prefix):
        check_text(experiment.placement, "placement")
        if experiment.salt:
            check_text(experiment.salt, "salt")
        _check(len(variants) >= MIN_VARIANTS, "variants", "too_few")
        _check(len(variants) <= MAX_VARIANTS, "variants", "too_many")
        names = [variant.name for variant in variants]
        for n, variant in enumerate(variants):
            with _prefixed(f"variants[{n}]"):
                _check_variant(variant, len(variants))
                _check(names.index(variant.name) == n, "name", "repeated")


def _check_variant(variant: Variant, variants: int) -> None:
    _check(_TOKEN.fullmatch(variant.name) is not None, "name", "malformed")
    # `1 / of` as people write it may be a last bit more
    _check(MIN_SHARE <= variant.share <= (1 + 1e-9) / variants, "share")
    if variant.placement:
        check_text(variant.placement, "placement")
    if variant.release:
        _check_release(variant.release, "release")


def check_released(identifier: str, released: Released, prefix: str = "") -> None:
    """`identifier` is reported as ``release``, without the prefix."""
    _check_release(identifier, "release")
    with _prefixed(prefix):
        digest = _SHA256.fullmatch(released.manifest_sha256)
        _check(digest is not None, "manifest_sha256", "malformed")
        if released.parent:
            _check_release(released.parent, "parent")
        if released.counting is not None:
            field = released.counting.fault
            _check(not field, f"counting.{field}")


def check_current(current: Current, prefix: str = "") -> None:
    with _prefixed(prefix):
        if current.release:
            _check_release(current.release, "release")


class Definitions(NamedTuple):
    """What is in force on `control`, as far as one record depends on others."""

    placements: Collection[str]
    """Built in ones too."""
    experiments: Mapping[str, Experiment]
    releases: Collection[str]
    current: str
    """Release; "": none."""


def definitions(bodies: Mapping[str, Body]) -> Definitions:
    """The definitions in `bodies`, which are those in force, by ``subject:id``."""
    by_subject: dict[str, dict[str, Any]] = {}
    for name, body in bodies.items():
        subject, _, identifier = name.partition(":")
        by_subject.setdefault(subject, {})[identifier] = body
    current = bodies.get(CURRENT)
    return Definitions(
        placements={*BUILT_IN, *by_subject.get("placement", ())},
        experiments=by_subject.get("experiment", {}),
        releases=by_subject.get("release", {}),
        current=current.release if isinstance(current, Current) else "",
    )


def check_fits(identifier: str, body: Body, in_force: Definitions, prefix: str = "") -> None:
    """Checks that `body`, valid by itself, fits the definitions in force.

    Codes: `unknown_placement`, `missing_release`, `overlapping_experiment`, `older_release`.
    """
    with _prefixed(prefix):
        if isinstance(body, Experiment):
            _check_experiment_fits(identifier, body, in_force)
        elif isinstance(body, Current) and body.release:
            _check(body.release in in_force.releases, "release", "missing_release")
            older = bool(in_force.current) and release_order(body.release) < release_order(
                in_force.current
            )
            _check(body.rollback or not older, "release", "older_release")


def _check_experiment_fits(identifier: str, experiment: Experiment, in_force: Definitions) -> None:
    _check(experiment.placement in in_force.placements, "placement", "unknown_placement")
    for n, variant in enumerate(experiment.variants):
        placement_exists = not variant.placement or variant.placement in in_force.placements
        _check(placement_exists, f"variants[{n}].placement", "unknown_placement")
        release_exists = not variant.release or variant.release in in_force.releases
        _check(release_exists, f"variants[{n}].release", "missing_release")
    others = (other for name, other in in_force.experiments.items() if name != identifier)
    taken = any(other.running and other.placement == experiment.placement for other in others)
    _check(not (experiment.running and taken), "placement", "overlapping_experiment")


class _Kind(NamedTuple):
    decode: Callable[[bytes], Any]
    check: Callable[[str, Any], None]


def _placement(identifier: str, recipe: Recipe) -> None:
    check_text(identifier, "placement")
    check_recipe(recipe)


_KINDS: Final = {
    "placement": _Kind(msgspec.json.Decoder(Recipe).decode, _placement),
    "experiment": _Kind(msgspec.json.Decoder(Experiment).decode, check_experiment),
    "release": _Kind(msgspec.json.Decoder(Released).decode, check_released),
    CURRENT: _Kind(msgspec.json.Decoder(Current).decode, lambda _, body: check_current(body)),
}


def decode_body(subject: str, identifier: str, text: bytes) -> Body:
    """The body of ``subject:identifier`` from its JSON, within its limits; None for an unknown policy."""
    kind = _KINDS.get(subject) or _KINDS.get(f"{subject}:{identifier}")
    try:
        text.decode()  # an unknown policy has no other check
        if kind is None:
            check_text(identifier, subject)
            return None
        body: Body = kind.decode(text)
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except UnicodeDecodeError:
        raise Rejected("body", "not_utf8") from None
    except RecursionError:
        raise Rejected("body", "too_deep") from None
    except msgspec.DecodeError:
        raise Rejected("body", "not_json") from None
    kind.check(identifier, body)
    return body


def _check(holds: bool, field: str, code: str = "out_of_range") -> None:
    # comparisons with a NaN are false, so it is out of every range
    if not holds:
        raise Rejected(field, code)


def _check_release(release: str, field: str) -> None:
    _check(RELEASE_ID.fullmatch(release) is not None, field, "malformed")


@contextmanager
def _prefixed(prefix: str) -> Iterator[None]:
    try:
        yield
    except Rejected as error:
        if not prefix:
            raise
        raise Rejected(f"{prefix}.{error.field}", error.code, error.takes) from None
