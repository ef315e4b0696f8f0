"""From the log to a release that serves: train, evaluate, write, register."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from infra.apps.train.needs import check_installed

if TYPE_CHECKING:
    from infra.apps.train.run import TrainedRelease
    from infra.settings import Settings
    from infra.terminal.progress import Reporter


def train(
    settings: Settings,
    say: Reporter,
    *,
    until: str = "",
    publish: bool = True,
    activate: bool = True,
) -> tuple[TrainedRelease, str]:
    """Trains on the log. Gives the release and its id, which is "" where it was not published.

    Errors: `NotInstalled`, `TooLittle`, `BadUntil`, `ExportDiffers`, `ChangeNotApplied`;
    Kafka's and Redis's.
    """
    check_installed()
    from flows.offline.history import read
    from infra.apps.train import run
    from infra.apps.train.log import cut
    from infra.kafka.changes import serve

    with say.work("read the log"):
        log = cut(read(settings), until)
    made = run.train(log, settings, say)
    summary(made, say)
    if not publish:
        return made, ""
    release = write(settings, made, time.time_ns() // 1_000_000)
    say(f"Release {release} in {settings.releases / release}")
    if activate:
        serve(settings, release)
        say(f"Release {release} serves from now on.")
    return made, release


def summary(made: TrainedRelease, say: Reporter) -> None:
    """Prints the figures of the arms and the verdicts of the gate."""
    from infra.terminal.text import table

    rows = [
        (name, f"{arm.hit_rate:.4f}", f"{arm.ndcg:.4f}")
        for name, arm in sorted(made.arms.items(), key=lambda it: -it[1].ndcg)
    ]
    title = f"{made.choices['judged']:,} choices held out, full ranking"
    say(table(title, ("arm", "#HR@10", "#NDCG@10"), rows))
    for name, verdict in made.verdicts.items():
        word = "released" if verdict.released else "NOT RELEASED"
        say(f"{name}: {word}; {verdict.why}")


def write(settings: Settings, made: TrainedRelease, now: int) -> str:
    """Writes the release, registers it in the topic `control`, and gives its id. `now`: ms."""
    import numpy as np

    from infra.kafka.changes import current, publish
    from infra.version import RELEASE
    from models.release import content
    from models.release.write import save
    from models.training import vectors
    from schemas.control import Released
    from schemas.releases import ENCODER, HASHES, VECTORS, Manifest, Space

    parent = current(settings)
    manifest = Manifest(
        format=0,
        id=next_id(settings, now, parent),
        created_at=now,
        parent=parent,
        code=RELEASE,
        features=made.features,
        schema="",
        space=Space(name=vectors.SPACE_NAME, dim=content.DIM, items=len(made.hashes)),
        coarse=dict(made.weights),
        files={},
        metrics=made.metrics,
        data=made.data,
    )
    arrays: dict[str, Any] = {
        HASHES: made.hashes,
        VECTORS: np.rint(made.learnt.vectors * content.GRID).astype(np.int16),
        ENCODER: made.learnt.encoder,
    }
    sha = save(settings.releases, manifest, arrays, made.model)
    publish(settings, "release", manifest.id, Released(manifest_sha256=sha, parent=parent))
    return manifest.id


def next_id(settings: Settings, now: int, parent: str) -> str:
    """The next free id of the day, YYYY-MM-DD.N, later than `parent`. `now`: ms."""
    from schemas.control import release_order

    day = datetime.fromtimestamp(now / 1000, UTC).date().isoformat()
    taken = [path.name for path in settings.releases.glob("[0-9]*.*")] + (
        [parent] if parent else []
    )
    day = max([day, *(release_order(parent)[:1] if parent else ())])
    used = [int(name.rpartition(".")[2]) for name in taken if name.startswith(f"{day}.")]
    return f"{day}.{max(used, default=0) + 1}"
