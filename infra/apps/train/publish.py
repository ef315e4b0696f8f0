"""From the log to a release that serves: train, evaluate, write, register."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from infra.apps.releases import control
from infra.apps.train.needs import check_installed

if TYPE_CHECKING:
    from infra.apps.releases.control import ReleaseControl
    from infra.apps.train.trained import TrainedRelease
    from infra.settings import Settings
    from infra.terminal.progress import Reporter
    from models.evaluation.intervals import IntervalEstimate
    from models.release.release import Release


def train(
    settings: Settings,
    reporter: Reporter,
    *,
    until: str = "",
    publish: bool = True,
    activate: bool = True,
) -> tuple[TrainedRelease, str]:
    """Trains on the log. Gives the release and its id, which is "" where it was not published. One that the
    gate does not release is kept: written and registered, and what serves stays.

    Errors: `needs.NotInstalled`, `log.TooLittle` and `BadUntil`, `changes.ChangeNotApplied`; Kafka's and
    Redis's.
    """
    check_installed()
    from flows.offline.history import read
    from infra.apps.train import run
    from infra.apps.train.log import cut
    from infra.releases.bucket import in_bucket

    in_force, shared = control.read(settings), set(in_bucket(settings) if publish else ())
    with reporter.work("read the log"):
        log = cut(read(settings), until)
    trained = run.train(log, settings, reporter, parent=_parent(settings, in_force, reporter))
    summary(trained, reporter)
    if not publish:
        return trained, ""
    release = write(settings, trained, time.time_ns() // 1_000_000, in_force.current, shared)
    reporter(f"Release {release} in {settings.releases / release}")
    if not trained.released:
        reporter(
            f"Release {release} is kept, and what serves stays: {trained.verdict.why}."
            f" To serve it nevertheless: freshet release promote {release}"
        )
    elif activate:
        serve(settings, release, in_force, reporter)
    return trained, release


def serve(settings: Settings, release: str, in_force: ReleaseControl, reporter: Reporter) -> None:
    """Serves the release, unless what it was judged against serves no longer."""
    from infra.kafka import changes

    try:
        changes.serve(settings, release, expected_version=in_force.version)
        reporter(f"Release {release} serves from now on.")
    except changes.OtherChange:
        reporter(
            f"Release {release} is kept: what serves was changed while it was trained, and is no rival that"
            f" it was judged against. To serve it nevertheless: freshet release promote {release}"
        )


def _parent(settings: Settings, in_force: ReleaseControl, reporter: Reporter) -> Release | None:
    """The release that serves, a rival of the new one; None where there is none that can be loaded."""
    from infra.releases.errors import ReleaseUnavailable
    from infra.releases.fetch import fetch
    from models.release.artefact import BadRelease, load

    serving = in_force.current
    if not serving:
        return None
    try:
        return load(fetch(settings, serving))
    except (BadRelease, ReleaseUnavailable) as bad:
        reporter(f"The release that serves is no rival: {bad}")
        return None


def summary(trained: TrainedRelease, reporter: Reporter) -> None:
    """Prints the figures of the arms, the `repeat` that they hold for, how many actions nothing was learnt
    from, and the verdicts of the gate."""
    from infra.apps.replay.recipe import REPEAT, sentence
    from infra.terminal.text import table

    rows = [
        (name, f"{arm.hit_rate:.4f}", f"{arm.ndcg:.4f}", _interval(trained.judged.ndcg[name]))
        for name, arm in sorted(trained.arms.items(), key=lambda it: -it[1].ndcg)
    ]
    title = f"{trained.choices['judged']:,} choices held out, full ranking"
    reporter(table(title, ("arm", "#HR@10", "#NDCG@10", "95 %"), rows))
    reporter(sentence(REPEAT))
    dropped = sorted(trained.dropped.items(), key=lambda it: -it[1])
    reporter(f"Dropped: {', '.join(f'{why} {count:,}' for why, count in dropped) or 'nothing'}.")
    for name, verdict in trained.verdicts.items():
        reporter(f"{name}: {verdict.outcome}; {verdict.why}")


def _interval(estimate: IntervalEstimate) -> str:
    if estimate.lower is None or estimate.upper is None:
        return ""
    return f"{estimate.lower:.4f} to {estimate.upper:.4f}"


def write(
    settings: Settings,
    trained: TrainedRelease,
    now: int,
    parent: str,
    shared: Collection[str] = (),
) -> str:
    """Writes the release, registers it in the topic `control`, and gives its id. `now`: ms; `parent`: the
    release that served while it was trained; `shared`: the releases that were in the bucket then.

    Errors: `ReleaseUnavailable` where the bucket does not take it; it is in the folder nevertheless."""
    import numpy as np

    from infra.kafka.changes import publish
    from infra.releases.bucket import upload
    from infra.releases.errors import ReleaseUnavailable
    from infra.version import RELEASE
    from models.release import content
    from models.release.write import save
    from models.training import vectors
    from schemas.control import Released
    from schemas.releases import ENCODER, HASHES, SAMPLE, VECTORS, Manifest, Space

    manifest = Manifest(
        format=0,
        id=next_id(settings, now, control.read(settings), shared),
        created_at=now,
        parent=parent,
        code=RELEASE,
        features=trained.features,
        schema="",
        space=Space(name=vectors.SPACE_NAME, dim=content.DIM, items=len(trained.hashes)),
        coarse=dict(trained.weights),
        files={},
        metrics=trained.metrics,
        data=trained.data,
        counting=trained.counting,
    )
    arrays: dict[str, Any] = {
        HASHES: trained.hashes,
        VECTORS: np.rint(trained.learnt.vectors * content.GRID).astype(np.int16),
        ENCODER: trained.learnt.encoder,
    }
    if trained.sample is not None:
        arrays[SAMPLE] = trained.sample
    sha = save(settings.releases, manifest, arrays, trained.model)
    try:
        upload(settings, manifest.id)
    except ReleaseUnavailable as bad:
        raise ReleaseUnavailable(
            f"{bad}; release {manifest.id} is in {settings.releases}, and is uploaded by"
            f" `freshet release promote {manifest.id}`"
        ) from None
    released = Released(manifest_sha256=sha, parent=parent, counting=trained.counting)
    publish(settings, "release", manifest.id, released, expected_version=0)
    return manifest.id


def next_id(
    settings: Settings, now: int, in_force: ReleaseControl, shared: Collection[str] = ()
) -> str:
    """The next free id of the day, YYYY-MM-DD.N, later than the release that serves: of no release that is
    registered, in the folder, in the bucket, where that answers, or in `shared`. `now`: ms."""
    from infra.releases.bucket import in_bucket
    from infra.releases.errors import ReleaseUnavailable
    from schemas.control import RELEASE_ID, release_order

    here = [it.name for it in settings.releases.glob("[0-9]*") if RELEASE_ID.fullmatch(it.name)]
    serving = [in_force.current] if in_force.current else []
    names = {*here, *in_force.registered, *serving, *shared}
    with suppress(ReleaseUnavailable):
        names |= in_bucket(settings).keys()
    taken = map(release_order, names)
    day = datetime.fromtimestamp(now / 1000, UTC).date().isoformat()
    day = max([day, *(release_order(name)[0] for name in serving)])
    return f"{day}.{max((number for of, number in taken if of == day), default=0) + 1}"
