"""`control`: the few things that govern the rest, as a log with compare-and-set.

One partition. A change names the version it expects to replace; the fold takes the first that
fits and refuses the others, so the log itself is the compare-and-set.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Final, Literal

import msgspec

from schemas.alphabet import Millis, between
from schemas.api.patterns import PRINTABLE, bytes_of, described, up_to
from schemas.headers import Schema
from schemas.identity import MAX_ID_BYTES
from schemas.state.counting import Counting
from schemas.times import DAY_MS, HOUR_MS

SCHEMA: Final = Schema("change", 1)
Subject = Literal["placement", "experiment", "release", "policy"]

BUILT_IN: Final = ("home", "popular", "replay")
"""Placements that every installation has; `serving.world.placements` defines what they serve."""
RELEASE_ID: Final = re.compile(r"(\d{4}-\d{2}-\d{2})\.(0|[1-9]\d{0,8})", re.ASCII)
"""``YYYY-MM-DD.N``: a day, and a number of that day."""
NEVER: Final = "never"
MAX_DEPTH: Final = 10_000
MAX_WEIGHT: Final = 1e6
"""Bound of a weight's absolute value."""
MAX_LIST_ENTRIES: Final = 100
MAX_FILTERS: Final = 32
MIN_VARIANTS: Final = 2
MAX_VARIANTS: Final = 10
MIN_SHARE: Final = 1e-4
"""One bucket (`models.experiments.assignment`)."""
DURATION: Final = re.compile(r"(0|[1-9]\d{0,8})([smhd])", re.ASCII)
MAX_REPEAT_MS: Final = 3650 * DAY_MS
_UNIT_MS: Final = {"s": 1000, "m": 60_000, "h": HOUR_MS, "d": DAY_MS}


class Change(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`body` becomes `subject`/`id`, if its version is still `expected_version` (0: it is new)."""

    subject: Subject
    id: str
    expected_version: int
    body: msgspec.Raw
    received_at: Millis
    actor: str = ""
    reason: str = ""


class Held(msgspec.Struct, kw_only=True):
    """One subject in Redis: the body as JSON text, and the version of the change that wrote it."""

    version: int
    body: str
    offset: int
    actor: str = ""
    reason: str = ""
    received_at: Millis = 0


class _Body(
    msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, frozen=True
):
    """The body of a change: its JSON holds only the fields that differ from the defaults."""


def _counted(what: str, most: int, least: int = 0) -> msgspec.Meta:
    # for the schema alone, as `between`
    return msgspec.Meta(
        extra_json_schema={f"max{what}": most} | ({f"min{what}": least} if least else {})
    )


_Text = Annotated[str, described(bytes_of(MAX_ID_BYTES, PRINTABLE))]
_Name = Annotated[str, described(bytes_of(MAX_ID_BYTES, PRINTABLE, 1))]
TOKEN: Final = "1 to 64 letters, digits, ., _ and -"
"""What the id of an experiment and the name of a variant are: both travel in a header."""
TOKEN_SCHEMA: Final = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$", "description": TOKEN}
_Token = Annotated[str, described(TOKEN_SCHEMA)]
_NAMES: Final = {"propertyNames": {"pattern": "^[a-z0-9_-]{1,64}$"}}
_ReleaseId = Annotated[
    str,
    msgspec.Meta(
        description="the id of a release, such as 2024-01-31.1, or nothing",
        extra_json_schema={"pattern": r"^([0-9]{4}-[0-9]{2}-[0-9]{2}\.(0|[1-9][0-9]{0,8}))?$"},
    ),
]
_Texts = Annotated[tuple[_Name, ...], _counted("Items", MAX_LIST_ENTRIES)]


class Exploration(_Body, frozen=True):
    """With probability `epsilon` the last slot is drawn from the least served items (0: never)."""

    epsilon: Annotated[float, between(0, 1)] = 0.0


class Fatigue(_Body, frozen=True):
    """Discount of an item that was shown before: score x `factor` ** (n x 2 ** (-age / half-life)), where
    n counts the showings and `age` is that of the last one. `factor` 1: no discount."""

    factor: Annotated[float, between(0, 1, above=True)] = 0.8
    half_life_hours: Annotated[float, between(1e-3, 1e6)] = 24.0


_DURATION: Final = described(
    {
        "pattern": "^(never|"
        + "|".join(f"({up_to(MAX_REPEAT_MS // size)}){unit}" for unit, size in _UNIT_MS.items())
        + ")$"
    }
)


class Repeat(_Body, frozen=True):
    """After how long an item that the person acted on may come back: a whole number of s, m, h or d as in
    "12h", or "never". Of several actions on an item the longest wait holds, from the newest of them on. What
    the person disliked or hid does not come back."""

    view: Annotated[str, _DURATION, msgspec.Meta(description="After a view.")] = "1d"
    click: Annotated[
        str,
        _DURATION,
        msgspec.Meta(
            description="After a click, a like, a share, a cart, or a rating not below the middle."
        ),
    ] = "1d"
    purchase: Annotated[
        str,
        _DURATION,
        msgspec.Meta(description="After a purchase, of the item or of a variant of its group."),
    ] = "never"


class Filter(_Body, frozen=True):
    """A named filter: an item passes if it has an entry of each list given, and is young enough."""

    categories: _Texts = ()
    types: _Texts = ()
    tags: _Texts = ()
    owners: _Texts = ()
    published_within_days: Annotated[float, between(0, 36_500, above=True)] | None = None


class Recipe(_Body, frozen=True):
    """A placement: sources, weights, rules and exploration, under one version. `body` of a placement.

    Weights are per source and column, in units of the coarse score; a source without one is not asked.
    """

    weights: (
        Annotated[
            dict[str, Annotated[float, between(-MAX_WEIGHT, MAX_WEIGHT)]],
            _counted("Properties", MAX_LIST_ENTRIES, 1),
            described(_NAMES),
        ]
        | None
    ) = None
    """None: the weights of the release, or the built-in ones where it has none."""
    ranker: bool = True
    """Rank the best by the release's model, where it has one."""
    category_cap: Annotated[
        float,
        between(0, 1, above=True),
        msgspec.Meta(
            description=(
                "Largest share of one primary category among the first 10 (and of `count` below 10); an"
                " item's other categories do not count."
            )
        ),
    ] = 0.3
    owner_cap: Annotated[float, between(0, 1, above=True)] = 0.3
    """Largest share of one `owner_id`, likewise."""
    fresh_days: Annotated[float, between(0, 3650)] = 0.0
    """At least one item published within so many days, where one is eligible; 0: no such rule."""
    fatigue: Fatigue = Fatigue()
    exploration: Exploration = Exploration()
    repeat: Annotated[
        Repeat,
        msgspec.Meta(
            description="After how long an item may come back, by action. Built in: a day after a view or a"
            " click, never after a purchase. Where nothing else is left, what may come back later comes at"
            ' once, what was seen longest ago first, and the answer says `rules_relaxed: ["seen"]`.'
        ),
    ] = Repeat()
    filters: Annotated[
        dict[str, Filter],
        _counted("Properties", MAX_FILTERS),
        described(_NAMES),
        msgspec.Meta(description="filters by names of 1 to 64 of a-z, 0-9, _ and -"),
    ] = {}
    depth: Annotated[int, between(1, MAX_DEPTH)] = 200
    """Candidates asked of each source."""


class Variant(_Body, frozen=True):
    """One arm of an experiment: the placement whose recipe it uses, and its release; "": as without it."""

    name: _Token
    share: Annotated[float, between(MIN_SHARE, 1 / MIN_VARIANTS)]
    """Share of all people, at most 1 / number of variants."""
    placement: _Text = ""
    release: _ReleaseId = ""


class Experiment(_Body, frozen=True):
    """Variants against each other on one placement; the first is the control. `body` of an experiment.

    Variant i of n owns the buckets from i / n on, as many as its share says: a wider share moves no person
    who was in it. At most one experiment runs on a placement.
    """

    placement: _Name
    variants: Annotated[tuple[Variant, ...], _counted("Items", MAX_VARIANTS, MIN_VARIANTS)]
    running: bool = True
    salt: _Text = ""
    """"" is the experiment's id: another salt shuffles people anew."""


class Released(_Body, frozen=True):
    """A release that exists; `body` of `release`/<its id>. The directory is named like the id."""

    manifest_sha256: str
    parent: str = ""
    counting: Counting | None = None
    """How pairs and popularity are counted while it serves; None: `schemas.state.counting.FORMAT_1`."""


class Current(_Body, frozen=True):
    """The release that serves; `body` of `policy`/"release". "" is none.

    A release that is older than the one it replaces is refused without `rollback`.
    """

    release: str
    rollback: bool = False


Body = Recipe | Experiment | Released | Current | None
"""Body of a change; None is a policy that this code does not know."""

CURRENT: Final = "policy:release"


@lru_cache(maxsize=256)
def duration_ms(text: str) -> int | None:
    """The milliseconds of a duration of `Repeat`; None is never. Errors: ValueError where it is none.

    >>> duration_ms("12h"), duration_ms("0s"), duration_ms("never")
    (43200000, 0, None)
    """
    if text == NEVER:
        return None
    match = DURATION.fullmatch(text)
    if match is None:
        raise ValueError("not a duration")
    return int(match[1]) * _UNIT_MS[match[2]]


def release_order(release: str) -> tuple[str, int]:
    """(day, number), by which releases ascend. Errors: ValueError where `release` is no id of a release.

    >>> release_order("2026-11-23.10") > release_order("2026-11-23.9")
    True
    """
    match = RELEASE_ID.fullmatch(release)
    if match is None:
        raise ValueError("not the id of a release")
    return match[1], int(match[2])


DECODER: Final = msgspec.json.Decoder(Change)
HELD_DECODER: Final = msgspec.json.Decoder(Held)


def decode(value: bytes) -> Change:
    return DECODER.decode(value)
