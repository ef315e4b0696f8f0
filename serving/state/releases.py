"""The releases in process: loaded and checked in the background, then taken in one step.

A request uses one `Loaded` from beginning to end, so no answer mixes two.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Final, NamedTuple

from infra.settings import Settings
from models.release.artefact import BadRelease, load
from models.release.release import Release
from serving.metrics import Metrics
from serving.state.background import Background, Fault
from serving.world.catalogue import ItemTable
from serving.world.index import SpaceIndex
from serving.world.placements import Control

log = logging.getLogger("freshet.serving")
LOOK_SECONDS: Final = 0.25
AT_ONCE: Final = 200
"""Items indexed before the event loop turns to others."""
AGAIN_SECONDS: Final = 5.0
"""After which one that could not be loaded is tried again: its files may be on their way."""


class Loaded(NamedTuple):
    """A release, and the catalogue in its space."""

    release: Release
    space: SpaceIndex


class Releases(Background):
    """Those that control wants. One that is bad never takes the place of a good one."""

    name = "releases"

    def __init__(
        self,
        settings: Settings,
        control: Control,
        items: ItemTable,
        metrics: Metrics,
        columns: Set[str],
    ) -> None:
        """`columns`: what a release may rank by and weigh."""
        self._settings, self._control, self._items = settings, control, items
        self._metrics, self._columns = metrics, columns
        self._loaded: Mapping[str, Loaded] = {}
        self._current = ""
        self._refused: dict[tuple[str, str], float] = {}

    @property
    def ready(self) -> bool:
        """Always: an answer without a release is a lesser one, but an answer."""
        return True

    @property
    def current(self) -> Loaded | None:
        """The one that control names, or until that is good the one before it."""
        return self._loaded.get(self._current)

    def get(self, release: str) -> Loaded | None:
        """The release of this id. For the current one that is not loaded, the one before it."""
        found = self._loaded.get(release)
        return self.current if found is None and release == self._control.current else found

    def faults(self) -> Iterator[Fault]:
        """Releases that control wants and that are not loaded, or not yet."""
        current, lacking = self._control.current, self._control.releases - self._loaded.keys()
        if current in lacking:
            served = f"{self._current} goes on" if self.current else "answers are made without"
            code = "not_loaded" if self.current else "no_model"
            yield Fault(self.name, code, f"Release {current} is not loaded: {served}.")
        for other in sorted(lacking - {current}):
            detail = f"Release {other} of an experiment is not loaded: answers are made without."
            yield Fault(self.name, "no_model", detail)

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Loads what control wants and is not here, indexes what changed, lets go of the rest."""
        for wanted in sorted(self._control.releases - self._loaded.keys()):
            made = await self._try(wanted)
            if made is not None:
                self._loaded = {**self._loaded, wanted: made}
                gc.freeze()  # it lives as long as it serves: no collection need look at it, and stop us
                log.warning("release %s is loaded: %d items", wanted, len(made.space))
        current = self._control.current
        if current in self._loaded or not current:
            self._current = current
        for loaded in self._loaded.values():
            await self._index(loaded.space)
        keep = self._control.releases | {self._current}
        if self._loaded.keys() - keep:
            self._loaded = {name: held for name, held in self._loaded.items() if name in keep}

    async def _try(self, name: str) -> Loaded | None:
        released = self._control.released.get(name)
        sha, now = released.manifest_sha256 if released else "", asyncio.get_running_loop().time()
        if now < self._refused.get((name, sha), 0.0):
            return None
        try:
            release = await asyncio.to_thread(load, self._settings.releases / name, sha)
            if foreign := self._unknown(release.features):
                raise BadRelease(
                    f"{name}: it ranks by {len(foreign)} features unknown here", "foreign"
                )
            if foreign := self._unknown(release.coarse):
                raise BadRelease(
                    f"{name}: it weighs {len(foreign)} columns unknown here", "foreign"
                )
        except BadRelease as bad:
            self._refuse(name, sha, bad, now)
            return None
        space = SpaceIndex(self._items, release, self._settings.exact_search)
        await self._index(space)
        return Loaded(release, space)

    def _unknown(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name not in self._columns]

    def _refuse(self, name: str, sha: str, bad: BadRelease, now: float) -> None:
        """Told and counted once, however often it is tried."""
        if (name, sha) not in self._refused:
            log.error("release %s; what served before goes on", bad)
            self._metrics.add("freshet_release_refused_total", why=bad.word)
        self._refused[name, sha] = now + AGAIN_SECONDS

    async def _index(self, space: SpaceIndex) -> None:
        while not space.refresh(AT_ONCE):
            await asyncio.sleep(0)
