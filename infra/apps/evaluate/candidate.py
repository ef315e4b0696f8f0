"""The release that is trained on the history alone, and what the gate would serve of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from infra.apps.evaluate.data import to_log
from infra.apps.train.log import TooLittle
from infra.apps.train.needs import NotInstalled, check_installed
from infra.datasets.acts import Acts
from models.release.release import Release, Space

if TYPE_CHECKING:
    from infra.apps.train.trained import TrainedRelease
    from infra.settings import Settings
    from infra.terminal.progress import Reporter


class Candidate(NamedTuple):
    """`release` None: nothing could be trained. `serves`: the gate lets it serve. `gate`: its verdict, or why
    there is none, by component."""

    release: Release | None
    serves: bool
    gate: dict[str, dict[str, object]]


def candidate(history: Acts, settings: Settings, reporter: Reporter) -> Candidate:
    """Trained on the log of `history`."""
    try:
        check_installed()
        from infra.apps.train.run import train

        trained = train(to_log(history, settings.partitions), settings, reporter)
    except (TooLittle, NotInstalled) as error:
        return Candidate(None, False, {"data": {"outcome": "untrained", "why": str(error)}})
    return Candidate(_release(trained), True, trained.metrics["gate"])


def _release(trained: TrainedRelease) -> Release:
    from models.release import artefact

    space = Space(trained.hashes, trained.learnt.vectors, artefact.encoder(trained.learnt.encoder))
    rank = artefact.ranker(trained.model, len(trained.features)) if trained.model else None
    return Release(
        "candidate", trained.features, dict(trained.weights), space, rank, trained.counting
    )
