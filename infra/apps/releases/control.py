"""What `control` says of releases: which are registered, which serves, which experiments use them."""

from __future__ import annotations

from typing import Any, NamedTuple

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
        name.partition(":")[2]: msgspec.json.decode(it.body, type=Released)
        for name, it in held.items()
        if name.startswith("release:")
    }
    changed = held.get(CURRENT)
    current = msgspec.json.decode(changed.body, type=Current).release if changed else ""
    experiments: dict[str, list[str]] = {}
    for name, it in held.items():
        if name.startswith("experiment:"):
            experiment = msgspec.json.decode(it.body, type=Experiment)
            for variant in experiment.variants if experiment.running else ():
                if variant.release:
                    experiments.setdefault(variant.release, []).append(name.partition(":")[2])
    return ReleaseControl(registered, current, changed, experiments)
