"""What the caller of an import asks for, and the files and the system that this names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from infra.apps.bulk_import.program import Job
from infra.apps.bulk_import.system import Endpoint
from infra.client.token import is_local
from infra.datasets import movielens, sources
from infra.datasets.options import ReadOptions
from infra.local.find import NothingRuns, RunningSystem, find, folder
from infra.settings import Settings, from_environment


@dataclass(frozen=True)
class Asked:
    """The options of an import. `source`: the name of its memory; `url`, `data_dir`: None where the running
    system's are meant."""

    items: tuple[Path, ...]
    events: tuple[Path, ...]
    movielens: Path | None
    reading: ReadOptions
    source: str
    again: bool
    strict: bool
    connections: int
    batch: int
    url: str | None
    data_dir: Path | None

    def job(self) -> Job:
        """The files. Errors: `NotMovieLens`."""
        films, ratings = movielens.sources(self.movielens) if self.movielens else (None, None)
        items = [sources.items(path, self.reading) for path in self.items]
        events = [sources.events(path, self.reading) for path in self.events]
        return Job(
            [films, *items] if films else items,
            [ratings, *events] if ratings else events,
            strict=self.strict,
            again=self.again,
        )


class Found(NamedTuple):
    """The system of an import, and the data folder of who imports. `target.url` is "" where none runs."""

    target: Endpoint
    settings: Settings
    folder: Path


def find_system(asked: Asked, environment: Mapping[str, str], *, needed: bool) -> Found:
    """The running system, or the one at `asked.url`, for which nothing need run here: its token is in the
    environment. `needed`: it is an error where there is none. Errors: as `find`'s."""
    try:
        running = find(asked.data_dir, environment)
        place = Path(running.up.data_dir) if running.up else folder(asked.data_dir, environment)
    except NothingRuns:
        if needed and not asked.url:
            raise
        running = RunningSystem(from_environment(environment), "", None)
        place = folder(asked.data_dir, environment)
    token = _token(asked, running, environment)
    target = Endpoint(asked.url or running.url, token, asked.connections, asked.batch)
    return Found(target, running.settings, place)


def _token(asked: Asked, running: RunningSystem, environment: Mapping[str, str]) -> str:
    """Of another machine's system the environment has the token: the one of a data folder is of the system
    that runs there."""
    if asked.url:
        given = from_environment(environment).token
        if given or not is_local(asked.url):
            return given
    return running.token
