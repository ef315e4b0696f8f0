"""`freshet release` against the flow `control`: promoted by hand, taken back, and never two at once."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from infra.apps.releases import control
from infra.apps.releases.find import ReleaseRefused
from infra.apps.releases.promote import promote
from infra.apps.train import publish
from infra.apps.train.history import Coarse
from infra.apps.train.trained import Judged, TrainedRelease
from infra.cli.main import cli
from infra.kafka import changes
from infra.kafka.changes import in_force
from infra.kafka.records import records
from infra.releases.errors import ReleaseUnavailable
from infra.settings import VARIABLES, Settings, to_environment
from infra.terminal.progress import Reporter
from models.evaluation.gate import COARSE, Verdict
from models.release import content
from models.release.artefact import read_manifest
from models.training.vectors import Learnt
from schemas.control import Released
from schemas.releases import VECTORS, TrainingData
from schemas.state.counting import Counting
from tests.flows.faults import spawn
from tests.support.releases import ONE, THREE, TWO, saved

pytestmark = pytest.mark.check

COUNTING = Counting(fade=0.75)
REFUSED = {
    "gate": {"coarse": {"outcome": "refused", "why": "it lost", "ratio": 0.9, "upper": 0.98}}
}
FOUR = "2026-11-25.1"
DAY_MS = 1_763_942_400_000
"""2025-11-24."""


@pytest.fixture
def installation(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """The flow `control` over three releases, of which none is registered, and one that was cut short."""
    saved(settings.releases, ONE, counting=COUNTING)
    saved(settings.releases, TWO, parent=ONE)
    saved(settings.releases, THREE, parent=ONE, metrics=REFUSED)
    saved(settings.releases, FOUR, parent=ONE)
    vectors = settings.releases / FOUR / VECTORS
    vectors.write_bytes(vectors.read_bytes()[:-9])
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    for variable, value in to_environment(settings).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(tmp_path)
    flow = spawn(settings, "control", tmp_path / "flow.log")
    try:
        yield settings
    finally:
        flow.kill()
        flow.wait()


def release(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, ["release", *words], prog_name="freshet")
    assert done.exit_code == code, done.output
    return done


def states() -> dict[str, str]:
    found: list[dict[str, Any]] = json.loads(release("list", "--json").stdout)
    return {it["id"]: it["state"] for it in found}


def test_a_release_is_promoted_by_hand_and_taken_back(installation: Settings) -> None:
    assert "no release serves" in release("rollback", code=2).stderr
    release("promote", ONE)
    held = in_force(installation, "release", ONE)
    assert held is not None
    assert json.loads(held.body)["counting"]["fade"] == COUNTING.fade
    assert states() == {FOUR: "broken", THREE: "lost", TWO: "candidate", ONE: "serves"}

    said = release("promote", THREE, "--reason", "the experiment won").stdout
    assert f"{THREE} serves from now on, in the place of {ONE}." in said
    assert "refused 0.900" in said
    assert "it lost" in said
    changed = in_force(installation, "policy", "release")
    assert changed is not None
    assert (changed.actor, changed.reason) == ("cli", "the experiment won")
    assert "the experiment won" in release("list").stdout
    assert states() == {FOUR: "broken", THREE: "serves", TWO: "earlier", ONE: "earlier"}
    assert "serves already" in release("promote", THREE).stdout

    older = release("promote", TWO, code=2).stderr
    assert f"`freshet release rollback --to {TWO}` returns to it" in older
    assert f"{VECTORS} is cut short" in release("promote", FOUR, code=2).stderr
    assert f"{VECTORS} is cut short" in release("rollback", "--to", FOUR, code=2).stderr
    assert states()[THREE] == "serves"

    release("rollback", "--to", TWO)
    assert states()[TWO] == "serves"
    assert "is newer" in release("rollback", "--to", THREE, code=2).stderr
    release("rollback", "--reason", "it was slow")
    assert states()[ONE] == "serves"
    assert "has no parent" in release("rollback", code=2).stderr
    hint = release("activate", TWO)
    assert "is called `release promote`" in hint.stderr
    assert states()[TWO] == "serves"
    release("rollback", "--to", "built-in")
    assert "serves" not in states().values()


def test_a_release_of_one_machine_is_in_the_bucket_once_it_is_promoted(
    installation: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "shared")
    monkeypatch.setenv("FRESHET_RELEASE_URL", url)
    monkeypatch.setenv("FRESHET_RELEASE_DIR", str(installation.releases))
    release("promote", ONE)
    monkeypatch.setenv("FRESHET_RELEASE_DIR", str(tmp_path / "another"))
    found = json.loads(release("list", "--json").stdout)
    assert [(it["id"], it["state"], it["where"]) for it in found] == [(ONE, "serves", ["bucket"])]
    assert f"# Release {ONE}" in release("show", ONE).stdout
    assert (tmp_path / "another" / ONE / VECTORS).is_file()


def test_of_two_promoted_at_once_one_is_refused(installation: Settings) -> None:
    seen = control.read(installation)
    promote(installation, seen, ONE)
    with pytest.raises(ReleaseRefused, match="another release was promoted") as raised:
        promote(installation, seen, TWO)
    assert raised.value.exit_code == 2
    assert states()[ONE] == "serves"
    acts = records(installation, "audit", from_beginning=True, until_end=True)
    found = [it["value"] for it in acts]
    assert {(it["client"], it["route"]) for it in found} == {("cli", "control change")}
    assert (["policy:release"], 200) in [(it["targets"], it.get("status")) for it in found]


def test_what_was_trained_while_another_was_promoted_does_not_replace_it(
    installation: Settings,
) -> None:
    """The gate held it against what served before."""
    of_two = read_manifest(installation.releases / TWO)[1]
    changes.publish(installation, "release", TWO, Released(manifest_sha256=of_two, parent=ONE))
    as_it_began, said = control.read(installation), io.StringIO()
    promote(installation, as_it_began, ONE)
    publish.serve(installation, TWO, as_it_began, Reporter(Console(file=said, width=1000)))
    assert f"Release {TWO} is kept" in said.getvalue()
    assert f"freshet release promote {TWO}" in said.getvalue()
    assert states() == {FOUR: "broken", THREE: "lost", TWO: "candidate", ONE: "serves"}
    publish.serve(installation, TWO, control.read(installation), Reporter(Console(file=said)))
    assert states()[TWO] == "serves"


def trained() -> TrainedRelease:
    vectors = np.zeros((1, content.DIM), np.float32)
    learnt = Learnt(vectors, np.eye(content.DIM, dtype=np.float32))
    judged = Judged({COARSE: Verdict("undecided", "few")}, {}, {}, 0)
    data = TrainingData(events=1, offsets=(1,), first=1, last=1)
    coarse = Coarse(COUNTING, {"covisit": 1.0}, {})
    return TrainedRelease(np.ones(1, np.uint64), learnt, coarse, (), None, data, {}, judged, {}, {})


def test_what_the_bucket_does_not_take_is_kept_in_the_folder_and_promoted_later(
    installation: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.write_text("no folder")
    away = msgspec.structs.replace(installation, release_url=str(shared))
    with pytest.raises(ReleaseUnavailable, match=r"`freshet release promote 2025-11-24\.3`"):
        publish.write(away, trained(), DAY_MS, "", {"2025-11-24.2"})
    assert "2025-11-24.3" in states()
    shared.unlink()
    monkeypatch.setenv("FRESHET_RELEASE_URL", str(shared))
    release("promote", "2025-11-24.3")
    assert states()["2025-11-24.3"] == "serves"
    assert (shared / "2025-11-24.3" / VECTORS).is_file()
