"""The outcomes of showing an item, by placement: its arms, for `freshet inspect item`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    import redis

    from models.aggregates.arms import Arm
    from schemas.keys import Keyspace

COLUMNS: Final = (
    "placement", "#served", "#displayed", "#clicked", "#converted", "#explored", "#mean reward",
    "Beta", "#click rate", "#95 %",
)  # fmt: skip
_GLOB: Final = b"*?[]\\^-"
"""Bytes with a meaning in a pattern of Redis."""


def arms_held(client: redis.Redis, keyspace: Keyspace, item_id: str) -> list[dict[str, Any]]:
    """Every arm of the item, by placement: a scan over all arms, since any placement may have existed."""
    import numpy as np

    from models.aggregates.arms import arm
    from schemas.identity import item_hash
    from schemas.state.tables import ARM_KEY

    item = item_hash(item_id).to_bytes(8, "little")
    pattern = b"????" + b"".join(b"\\" + bytes([it]) if it in _GLOB else bytes([it]) for it in item)
    found = {}
    for key, value in client.hscan_iter(keyspace.tables().arms, match=pattern, count=10_000):
        found[int(np.frombuffer(key, ARM_KEY)["placement"][0])] = arm(value)
    names = _placements(client, keyspace) if found else {}
    arms = [_document(names.get(number, f"#{number:08x}"), it) for number, it in found.items()]
    return sorted(arms, key=lambda it: str(it["placement"]))


def cells(arm: dict[str, Any]) -> tuple[object, ...]:
    """A row of `COLUMNS`."""
    beta, (lo, hi) = arm["beta"], arm["click_rate"]["interval"]
    return (
        arm["placement"],
        *(arm[name] for name in ("served", "displayed", "clicked", "converted", "explored")),
        f"{arm['mean_reward']:.4f}",
        f"({beta['alpha']}, {beta['beta']})",
        f"{arm['click_rate']['mean']:.2%}",
        f"[{lo:.2%}, {hi:.2%}]",
    )


def _document(placement: str, arm: Arm) -> dict[str, Any]:
    from models.aggregates.arms import credible

    beta = arm.beta
    counts = {name: getattr(arm, name) for name in ("served", "displayed", "clicked", "explored")}
    return {
        "placement": placement,
        **counts,
        "converted": sum(arm.attribution.values()),
        "attribution": arm.attribution,
        "mean_reward": arm.mean,
        "beta": {"alpha": beta.alpha, "beta": beta.beta},
        "click_rate": {
            "mean": beta.alpha / (beta.alpha + beta.beta),
            "interval": list(credible(beta)),
        },
    }


def _placements(client: redis.Redis, keyspace: Keyspace) -> dict[int, str]:
    """Hash -> name of the placements that are built in, were put, or are named by an experiment."""
    from schemas.control import BUILT_IN, HELD_DECODER, Experiment
    from schemas.identity import category_hash

    names = set(BUILT_IN)
    held: dict[bytes, bytes] = client.hgetall(keyspace.control_state())  # type: ignore[assignment]
    for key, value in held.items():
        subject, _, identifier = key.decode().partition(":")
        if subject == "placement":
            names.add(identifier)
        elif subject == "experiment":
            try:
                body = HELD_DECODER.decode(value).body
                names.add(msgspec.json.decode(body, type=Experiment).placement)
            except msgspec.MsgspecError:
                continue
    return {category_hash(name): name for name in names}
