"""`freshet evaluate`: from what was asked to the result, its files, and a table for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from infra.apps.evaluate.data import acts_of
from infra.apps.evaluate.figures import Figures
from infra.apps.evaluate.files import FOLDER, check, write
from infra.apps.evaluate.names import named
from infra.apps.evaluate.protocols.delays import parse
from infra.apps.evaluate.protocols.plan import CannotEvaluate, Options, Protocol, Seen
from infra.apps.evaluate.report.phrases import span, times
from infra.apps.evaluate.run import Evaluation, evaluate
from infra.apps.evaluate.words import arm, every_arm, ordered
from infra.datasets.acts import Acts
from infra.datasets.rows import NotReadable
from infra.settings import Settings
from infra.terminal.text import table

if TYPE_CHECKING:
    from rich.table import Table

    from infra.terminal.progress import Reporter


class Request(NamedTuple):
    """The options of the command."""

    data: str
    layout: str
    protocol: Protocol
    delay: str | None
    split: float | None
    seen: Seen
    seed: int
    seeds: tuple[int, ...]
    targets: int


def run(
    request: Request, out: Path | None, data_dir: Path, reporter: Reporter
) -> tuple[Figures, Table]:
    """Evaluates, and writes the files. Errors: `CannotEvaluate`, `CannotWrite`; of a lake `LakeError`."""
    delay = parse(request.delay) if request.delay is not None else None
    found, folder = named(request.data), out or data_dir / FOLDER
    check(folder)
    with reporter.work(f"read {found.name}"):
        acts = _acts(found.path, request.layout)
    options = Options(request.protocol, request.split, request.seen, request.seed, request.targets)
    asked = Evaluation(found.name, options, delay, request.seeds)
    result = evaluate(acts, asked, Settings(), reporter)
    files = write(folder, result)
    reporter(f"The result is in {files.result}, the report in {files.report}")
    return result, as_table(result)


def _acts(path: str, layout: str) -> Acts:
    try:
        return acts_of(path, layout=layout)
    except NotReadable as error:
        raise CannotEvaluate(error.sentence, remedy=error.remedy) from None


def as_table(result: Figures) -> Table:
    """The arms, the best one first, with the ratio of what serves to each."""
    arms = every_arm(result)
    rows = []
    for name in ordered(arms):
        it, ratio = arms[name], result["ratios"].get(name)
        both = f"{it['ndcg_lo']:.4f} to {it['ndcg_hi']:.4f}" if it.get("ndcg_hi") else ""
        against = f"{times(ratio)} ({span(ratio)})" if ratio else ""
        rows.append((arm(name), f"{it['hr']:.4f}", f"{it['ndcg']:.4f}", both, against))
    late = f", late by {result['delay']}" if result["delay"] else ""
    title = f"{result['data']}, {result['protocol']}{late}: {result['n']:,} found by"
    columns = ("arm", "#HR@10", "#NDCG@10", "#95 % interval", "#released over it")
    return table(title, columns, rows)
