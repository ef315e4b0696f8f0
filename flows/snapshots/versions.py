"""The versions of a snapshot's records, and the upgrade of older records to the current versions."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from flows.people import fold
from flows.snapshots.files import ForeignSnapshot
from models.aggregates import tables
from models.features import registry
from models.outcomes import open_slates
from schemas import keys
from schemas.snapshots import Snapshot, Versions
from schemas.state import facts
from schemas.state.fences import Fence
from schemas.version import OtherVersion, readable, upgrade


class Versioned(NamedTuple):
    """A versioned kind of record, with its table of upgrades."""

    version: int
    upgrades: Any
    kind: bytes = b""
    """Kind of the keys whose values are such records, or b""."""


VERSIONED: Final = {
    "fold": Versioned(fold.VERSION, fold.UPGRADES),
    "facts": Versioned(facts.VERSION, facts.UPGRADES),
    "rows": Versioned(registry.VERSION, registry.UPGRADES, keys.ROW),
    "accounts": Versioned(open_slates.VERSION, open_slates.UPGRADES, keys.OPEN_SLATES),
    "tables": Versioned(tables.VERSION, tables.UPGRADES),
}
"""By field of `Versions`."""
State = dict[bytes, bytes]


def current_versions() -> Versions:
    """The versions that this code writes."""
    return Versions(**{name: it.version for name, it in VERSIONED.items()})


def check_versions(snapshot: Snapshot) -> None:
    """Errors: `ForeignSnapshot`, which names the version that this code cannot read."""
    for name, it in VERSIONED.items():
        if getattr(snapshot.versions, name) not in readable(it.version, it.upgrades):
            _upgrade(snapshot, name, None)


def upgraded(snapshot: Snapshot, partition: int, state: State) -> tuple[Fence, State]:
    """The fence and the state of a partition, with every record upgraded to the current version.

    Errors: `ForeignSnapshot`.
    """
    for name, it in VERSIONED.items():
        if it.kind and getattr(snapshot.versions, name) != it.version:
            for key, value in state.items():
                parsed = keys.PLAIN.parse(key)
                if parsed is not None and parsed.kind == it.kind:
                    state[key] = _upgrade(snapshot, name, value)
    fence = snapshot.fence(partition)
    state = _upgrade(snapshot, "fold", state)
    fence.version = fold.VERSION
    return fence, state


def _upgrade(snapshot: Snapshot, name: str, record: Any) -> Any:
    it, held = VERSIONED[name], getattr(snapshot.versions, name)
    what = f"snapshot {snapshot.id}: versions.{name}"
    try:
        return upgrade(what, held, it.version, it.upgrades, record)
    except OtherVersion as error:
        raise ForeignSnapshot(error.sentence, remedy=error.remedy) from None
