"""The release that is trained on the history alone, and what the gate would serve of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from infra.apps.evaluate.data import to_log
from infra.apps.train.log import TooLittle
from infra.apps.train.needs import NotInstalled, check_installed
from infra.datasets.acts import Acts
from models.release.release import Release

if TYPE_CHECKING:
    from infra.apps.train.trained import TrainedRelease
    from infra.settings import Settings
    from infra.terminal.progress import Reporter


@dataclass(frozen=True)
class Candidate:
    """`trained` None: nothing could be trained. `serves`: the gate lets it serve. `gate`: its verdict, or why
    there is none, by component."""

    trained: TrainedRelease | None
    serves: bool
    gate: dict[str, dict[str, object]]

    @cached_property
    def release(self) -> Release | None:
        """In memory, as it is once it was written and loaded."""
        return self.trained.release("candidate") if self.trained is not None else None

    def __reduce__(self) -> tuple[type[Candidate], tuple[object, ...]]:
        """The open model of `release` stays in its process."""
        return Candidate, (self.trained, self.serves, self.gate)


UNTRAINED: Final = Candidate(None, False, {})


def candidate(history: Acts, settings: Settings, reporter: Reporter) -> Candidate:
    """Trained on the log of `history`."""
    try:
        check_installed()
        from infra.apps.train.run import train

        trained = train(to_log(history, settings.partitions), settings, reporter)
    except (TooLittle, NotInstalled) as error:
        return Candidate(None, False, {"data": {"outcome": "untrained", "why": str(error)}})
    return Candidate(trained, trained.released, trained.metrics["gate"])
