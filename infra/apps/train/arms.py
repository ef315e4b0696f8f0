"""The rivals of a release, each with the same choices of the replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from infra.apps.replay.ranks import SINGLE_SOURCES, ReplayArm, ShownRanks, single_source
from infra.apps.replay.scenes import RECIPE, HeldOutChoice, TrainingReplay
from models.evaluation.gate import BUILT_IN, COARSE, RANKER
from models.evaluation.ranking import Ranks
from models.release.release import Release
from schemas.control import Recipe

if TYPE_CHECKING:
    from infra.terminal.progress import Reporter

PARENT: Final = "parent"
"""The release that serves now, whole."""
STRANGERS: Final = "popular_strangers"
"""What people without an interest are shown, shown to everybody."""


def play(
    replay: TrainingReplay,
    targets: Sequence[HeldOutChoice],
    release: Release,
    parent: Release | None,
    reporter: Reporter,
) -> dict[str, Ranks]:
    """By arm, the rank at which each of `targets` was shown; `release` with its ranker is `RANKER`, and
    without it `COARSE`."""
    arms: dict[str, Recipe | ReplayArm] = {name: single_source(name) for name in SINGLE_SOURCES}
    counting = release.counting
    to_all = msgspec.structs.replace(counting, window=counting.strangers)
    arms[STRANGERS] = ReplayArm(single_source("popular"), replace(release, counting=to_all))
    arms[COARSE] = msgspec.structs.replace(RECIPE, ranker=False)
    if release.rank is not None:
        arms[RANKER] = RECIPE
    worlds: list[tuple[Release | None, Mapping[str, Recipe | ReplayArm]]] = [
        (release, arms),
        (None, {BUILT_IN: RECIPE}),
    ]
    if parent is not None:
        worlds.append((parent, {PARENT: RECIPE}))
    found: dict[str, Ranks] = {}
    with reporter.work(
        "evaluate the release and its rivals", len(targets) * len(worlds)
    ) as progress:
        for serving, its in worlds:
            shown = ShownRanks(its)
            for scene in replay.play(targets, serving, progress):
                shown.add(scene)
            found |= shown.ranks
    return found
