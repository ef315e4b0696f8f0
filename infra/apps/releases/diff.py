"""Two releases side by side: counting, weights, features, data, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from models.release import verdicts
from models.release.card import METRICS
from models.release.verdicts import entries
from schemas.releases import RANKER, Manifest

Sides = tuple[Any, Any]
"""A value of the one release and of the other; None where one has no such value."""


def difference(one: Manifest, other: Manifest) -> dict[str, dict[str, Sides]]:
    """Section -> name -> the value on either side, of all that either release has."""
    both = _sections(one), _sections(other)
    return {
        section: {
            name: (both[0][section].get(name), both[1][section].get(name))
            for name in {**both[0][section], **both[1][section]}
        }
        for section in both[0]
    }


def _sections(manifest: Manifest) -> dict[str, dict[str, Any]]:
    data, metrics = manifest.data, manifest.metrics
    more = {**metrics, **entries(metrics.get("data"))}
    counted = {name: more.get(name) for name in ("people", "items", "choices", "dropped")}
    return {
        "release": {
            "created_at": manifest.created_at,
            "parent": manifest.parent,
            "code": manifest.code,
            "format": manifest.format,
            "ranker": RANKER in manifest.files,
            "vectors": f"{manifest.space.name} {manifest.space.items}",
        },
        "counting": msgspec.to_builtins(manifest.counting),
        "weights": dict(manifest.coarse),
        "features": _features(manifest),
        "data": {
            "events": data.events,
            "first": data.first,
            "last": data.last,
            **flat({name: it for name, it in counted.items() if it is not None}),
        },
        "metrics": _metrics(manifest),
    }


def _features(manifest: Manifest) -> dict[str, Any]:
    """Column of the ranker -> its gain where the manifest has it, else True."""
    gain = entries(manifest.metrics.get("gain") or manifest.metrics.get("gains"))
    return {name: gain.get(name, True) for name in manifest.features}


def _metrics(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, judged in verdicts.by_component(manifest).items():
        found |= {
            f"{name} verdict": judged.outcome,
            f"{name} ratio": judged.ratio.text(3) or None,
            f"{name} rival": judged.rival or None,
        }
    for name, arm in entries(manifest.metrics.get("arms")).items():
        for key, metric in METRICS:
            found[f"{name} {metric}"] = verdicts.interval(entries(arm).get(key)).value
    return {name: it for name, it in found.items() if it is not None}


def flat(held: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """The leaves of nested mappings, under joined names.

    >>> flat({"choices": {"judged": 3}, "people": 2})
    {'choices judged': 3, 'people': 2}
    """
    found: dict[str, Any] = {}
    for name, it in held.items():
        found |= (
            flat(it, f"{before}{name} ") if isinstance(it, Mapping) else {f"{before}{name}": it}
        )
    return found
