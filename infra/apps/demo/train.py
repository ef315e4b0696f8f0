"""The demo's release: learnt from the imported history, judged, and where it may be, served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import uvloop
from rich.markup import escape

from infra.apps.demo.wait import everywhere
from infra.apps.train import publish
from infra.apps.train.log import TooLittle
from infra.apps.train.needs import NotInstalled
from infra.client.client import Client
from infra.terminal.progress import SilentReporter
from models.evaluation.gate import RANKER
from models.release.artefact import load
from models.release.release import Release

if TYPE_CHECKING:
    from infra.apps.train.run import TrainedRelease
    from infra.local.system import System
    from infra.terminal.progress import Reporter


class Trained(msgspec.Struct, kw_only=True):
    """`id` "": nothing serves but what is built in. `ranker`: refused means that it was below the best
    there is without it, so the release goes without. `gate` says of each part what it was judged by,
    `ndcg_at_10` and `hit_rate_at_10` of each arm, on `judged` choices held out of the history's end.
    """

    id: str
    ranker: Literal["released", "refused", "none"]
    gate: dict[str, str]
    ndcg_at_10: dict[str, float] = {}
    hit_rate_at_10: dict[str, float] = {}
    judged: int = 0


def serve(system: System, say: Reporter) -> Trained:
    """Trains on what was imported, and lets every worker serve it. Errors: as `publish.train`, but for
    `NotInstalled` and `TooLittle`: then there is no release, and it says so."""
    try:
        with say.work("learn a release of it, and judge it"):
            made, release = publish.train(system.settings, SilentReporter(say.console))
    except TooLittle as error:
        say(f"  no release: {error}")
        return Trained(id="", ranker="none", gate={"data": str(error)})
    except NotInstalled as error:
        say(f"  left out: a trained release, and what it is worth; {escape(str(error))}")
        return Trained(id="", ranker="none", gate={"installed": str(error)})

    async def serves(client: Client) -> bool:
        return (await client.status()).release == release

    url, token = system.url, system.settings.token
    uvloop.run(everywhere(url, token, serves, f"release {release}"))
    trained = describe(made, release)
    say(f"  {words(trained)}")
    return trained


def words(trained: Trained) -> str:
    """Which release serves, and with or without a ranker."""
    verdict, _, figures = trained.gate[RANKER].partition(": ")
    ranker = "with its ranker" if verdict == "released" else "its ranker is NOT RELEASED"
    return (
        f"release {trained.id} serves, {ranker}: {figures}, on {trained.judged:,} choices held out"
    )


def describe(made: TrainedRelease, release: str) -> Trained:
    return Trained(
        id=release,
        ranker="released" if made.model is not None else "refused",
        gate={name: f"{it.outcome}: {it.why}" for name, it in made.verdicts.items()},
        ndcg_at_10={name: arm.ndcg for name, arm in made.arms.items()},
        hit_rate_at_10={name: arm.hit_rate for name, arm in made.arms.items()},
        judged=made.choices["judged"],
    )


def held(system: System, trained: Trained) -> Release | None:
    """What serves, for whoever decides in process."""
    return load(system.settings.releases / trained.id) if trained.id else None
