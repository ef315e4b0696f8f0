"""The demo's release: trained on the imported history, evaluated, and served where it passes."""

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
from infra.kafka.changes import current
from infra.terminal.progress import SilentReporter
from models.evaluation.gate import RANKER
from models.release.artefact import load
from models.release.release import Release

if TYPE_CHECKING:
    from infra.apps.train.trained import TrainedRelease
    from infra.local.system import System
    from infra.terminal.progress import Reporter


class Trained(msgspec.Struct, kw_only=True):
    """`id`: the release that serves, "" where only the built-in recipes do. `kept`: the one trained, where
    the gate did not let it serve. `ranker`: "refused" where the release trained has none. `gate`: the verdict
    on each component. `ratio`: NDCG over that of the rival that decided, with its 95 % interval. `ndcg_at_10`
    and `hit_rate_at_10`: of each arm, on `judged` choices held out of the end of the history.
    """

    id: str
    ranker: Literal["released", "refused", "none"]
    kept: str = ""
    ratio: tuple[float | None, float | None, float | None] = (None, None, None)
    gate: dict[str, str]
    ndcg_at_10: dict[str, float] = {}
    hit_rate_at_10: dict[str, float] = {}
    judged: int = 0


def serve(system: System, reporter: Reporter) -> Trained:
    """Trains on the imported history, and returns when every worker serves the release; one that is not
    released is kept, and what serves stays.

    Errors: those of `publish.train` except `NotInstalled` and `TooLittle`, which give no release and a
    sentence about it.
    """
    try:
        with reporter.work("train a release on it, and evaluate it"):
            result, release = publish.train(system.settings, SilentReporter(reporter.console))
    except TooLittle as error:
        reporter(f"  no release: {error}")
        return Trained(id="", ranker="none", gate={"data": str(error)})
    except NotInstalled as error:
        reporter(f"  left out: a trained release, and what it is worth; {escape(str(error))}")
        return Trained(id="", ranker="none", gate={"installed": str(error)})

    async def serves(client: Client) -> bool:
        return (await client.status()).release == release

    trained = describe(result, release)
    if trained.kept:
        trained.id = current(system.settings)
    else:
        url, token = system.url, system.token
        uvloop.run(everywhere(url, token, serves, f"release {release}"))
    reporter(f"  {words(trained)}")
    return trained


def words(trained: Trained) -> str:
    """A sentence about the release, whether it serves, and its ranker."""
    verdict, _, figures = trained.gate[RANKER].partition(": ")
    if trained.kept:
        serving = f"{trained.id} serves" if trained.id else "the built-in recipes serve"
        return (
            f"release {trained.kept} is kept ({verdict}), {serving}: {figures}, on"
            f" {trained.judged:,} choices held out"
        )
    ranker = "with its ranker" if verdict == "released" else "its ranker is NOT RELEASED"
    return (
        f"release {trained.id} serves, {ranker}: {figures}, on {trained.judged:,} choices held out"
    )


def describe(result: TrainedRelease, release: str) -> Trained:
    verdict = result.verdict
    return Trained(
        id=release if result.released else "",
        kept="" if result.released else release,
        ratio=(verdict.ratio, verdict.lower, verdict.upper),
        ranker="released" if result.model is not None else "refused",
        gate={name: f"{it.outcome}: {it.why}" for name, it in result.verdicts.items()},
        ndcg_at_10={name: arm.ndcg for name, arm in result.arms.items()},
        hit_rate_at_10={name: arm.hit_rate for name, arm in result.arms.items()},
        judged=result.choices["judged"],
    )


def load_release(system: System, trained: Trained) -> Release | None:
    """The release that serves, for decisions in process; None without one."""
    return load(system.settings.releases / trained.id) if trained.id else None
