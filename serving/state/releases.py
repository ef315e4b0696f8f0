"""The releases in process: loaded and checked in the background, then activated in one step.

A request uses one `LoadedRelease` from beginning to end, so no answer mixes two.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Final, NamedTuple

from infra.releases.errors import ReleaseUnavailable
from infra.releases.fetch import fetch
from infra.settings import Settings
from models.release.artefact import BadRelease, load
from models.release.release import Release
from serving.metrics import Metrics
from serving.state.background import Background, Fault
from serving.world.catalogue import ItemTable
from serving.world.index import SpaceIndex
from serving.world.placements import Control

log = logging.getLogger("freshet.serving")
POLL_SECONDS: Final = 0.25
ITEMS_PER_YIELD: Final = 200
"""Items indexed before the event loop runs other tasks."""
RETRY_SECONDS: Final = 5.0
"""After this long a release that could not be loaded is tried again: its files may arrive late."""


class LoadedRelease(NamedTuple):
    """A release, and the catalogue in its space."""

    release: Release
    space: SpaceIndex


class Releases(Background):
    """The releases that `control` refers to. A bad release never replaces a good one."""

    name = "releases"

    def __init__(
        self,
        settings: Settings,
        control: Control,
        items: ItemTable,
        metrics: Metrics,
        columns: Set[str],
    ) -> None:
        """`columns`: the names that a release may use as features and as coarse weights."""
        self._settings, self._control, self._items = settings, control, items
        self._metrics, self._columns = metrics, columns
        self._loaded: Mapping[str, LoadedRelease] = {}
        self._current = ""
        self._refused: dict[tuple[str, str], float] = {}
        self._fetches: dict[tuple[str, str], asyncio.Task[Path]] = {}

    @property
    def ready(self) -> bool:
        """Always: without a release reads are answered by the default ranking."""
        return True

    @property
    def current(self) -> LoadedRelease | None:
        """The release that control names; the one before it until that one is loaded."""
        return self._loaded.get(self._current)

    @property
    def loaded(self) -> Mapping[str, LoadedRelease]:
        """Those in process, by id."""
        return self._loaded

    def get(self, release: str) -> LoadedRelease | None:
        """The release of this id, None where it is not loaded. The one before the current release where the
        current one is not loaded."""
        loaded = self._loaded.get(release)
        return self.current if loaded is None and release == self._control.current else loaded

    def faults(self) -> Iterator[Fault]:
        """Releases that control refers to and that are not loaded."""
        current, missing = self._control.current, self._control.releases - self._loaded.keys()
        if current in missing:
            served = (
                f"{self._current} serves"
                if self.current
                else "reads are answered without a release"
            )
            code = "not_loaded" if self.current else "no_model"
            yield Fault(self.name, code, f"Release {current} is not loaded: {served}.")
        for other in sorted(missing - {current}):
            detail = (
                f"Release {other} of an experiment is not loaded: reads are answered without it."
            )
            yield Fault(self.name, "no_model", detail)

    async def run(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(POLL_SECONDS)

    async def refresh(self) -> None:
        """Loads the releases that control refers to, indexes changed items, drops unused releases."""
        for wanted in sorted(self._control.releases - self._loaded.keys()):
            loaded = await self._try_load(wanted)
            if loaded is not None:
                self._loaded = {**self._loaded, wanted: loaded}
                gc.freeze()  # a release lives long: a collection of it would only stop us
                log.warning("release %s is loaded: %d items", wanted, len(loaded.space))
        current = self._control.current
        if current in self._loaded or not current:
            self._current = current
        for loaded in self._loaded.values():
            await self._index(loaded.space)
        keep = self._control.releases | {self._current}
        if self._loaded.keys() - keep:
            self._loaded = {id_: it for id_, it in self._loaded.items() if id_ in keep}

    async def _try_load(self, name: str) -> LoadedRelease | None:
        released = self._control.released.get(name)
        sha, now = released.manifest_sha256 if released else "", asyncio.get_running_loop().time()
        if now < self._refused.get((name, sha), 0.0):
            return None
        try:
            path = self._fetched(name, sha)
            if path is None:
                return None
            release = await asyncio.to_thread(load, path, sha)
            if foreign := self._unknown(release.features):
                raise BadRelease(
                    f"{name}: it ranks by {len(foreign)} features that this version lacks",
                    "foreign",
                )
            if foreign := self._unknown(release.coarse):
                raise BadRelease(
                    f"{name}: it weighs {len(foreign)} columns that this version lacks", "foreign"
                )
        except (BadRelease, ReleaseUnavailable) as bad:
            self._refuse(name, sha, bad, now)
            return None
        space = SpaceIndex(
            self._items, release, self._settings.exact_search, self._settings.retrieval
        )
        await self._index(space)
        return LoadedRelease(release, space)

    def _fetched(self, name: str, sha: str) -> Path | None:
        """The folder of a release; None while it is fetched from the bucket, which holds up nothing else.
        Errors: `ReleaseUnavailable`."""
        if not self._settings.release_url:
            return self._settings.releases / name
        key = name, sha
        if key not in self._fetches:
            coroutine = asyncio.to_thread(fetch, self._settings, name, sha)
            self._fetches[key] = asyncio.create_task(coroutine)
        if not self._fetches[key].done():
            return None
        return self._fetches.pop(key).result()

    def _unknown(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name not in self._columns]

    def _refuse(
        self, name: str, sha: str, bad: BadRelease | ReleaseUnavailable, now: float
    ) -> None:
        """Logs and counts each refused release once."""
        if (name, sha) not in self._refused:
            log.error("release %s; the release before it serves", bad)
            self._metrics.add("freshet_release_refused_total", why=bad.code)
        self._refused[name, sha] = now + RETRY_SECONDS

    async def _index(self, space: SpaceIndex) -> None:
        while not space.refresh(ITEMS_PER_YIELD):
            await asyncio.sleep(0)
