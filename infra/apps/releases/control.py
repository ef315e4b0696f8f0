"""What `control` says of releases: which are registered, which serves, which experiments use them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import msgspec

from infra.settings import Settings
from infra.store import redis_client
from schemas.control import (
    CURRENT,
    HELD_DECODER,
    Current,
    Experiment,
    Held,
    Released,
)

_T = TypeVar("_T")


class ReleaseControl(NamedTuple):
    """`current`: the id of the release that serves, "" is none; `changed`: the change that says so.
    `experiments`: of a release the running experiments whose variants use it."""

    registered: dict[str, Released]
    current: str
    changed: Held | None
    experiments: dict[str, list[str]]

    @property
    def version(self) -> int:
        """The version of what says which release serves; 0: nothing does."""
        return self.changed.version if self.changed else 0


NOTHING = ReleaseControl({}, "", None, {})


def read(settings: Settings) -> ReleaseControl:
    """What is in force. Errors: Redis's."""
    with redis_client.connect(settings) as client:
        stored: Any = client.hgetall(settings.keyspace.control_state())
    held = {name.decode(): HELD_DECODER.decode(value) for name, value in stored.items()}
    registered = {
        name.partition(":")[2]: _body(it, Released) or Released(manifest_sha256="")
        for name, it in held.items()
        if name.startswith("release:")
    }
    changed = held.get(CURRENT)
    in_force = _body(changed, Current)
    experiments: dict[str, list[str]] = {}
    for name, it in held.items():
        experiment = _body(it, Experiment) if name.startswith("experiment:") else None
        if experiment is not None and experiment.running:
            for release in {variant.release for variant in experiment.variants} - {""}:
                experiments.setdefault(release, []).append(name.partition(":")[2])
    return ReleaseControl(registered, in_force.release if in_force else "", changed, experiments)


def _body(held: Held | None, kind: type[_T]) -> _T | None:
    """The body; None where there is none, or another version wrote it."""
    with suppress(msgspec.MsgspecError):
        return msgspec.json.decode(held.body, type=kind) if held else None
    return None
