"""What an operator sees of releases: listed with their verdicts, found with all files checked, compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from infra.apps.releases import diff, listing
from infra.apps.releases.control import NOTHING, ReleaseControl
from infra.apps.releases.find import ReleaseRefused, find
from infra.apps.train.publish import next_id
from infra.cli.main import cli
from infra.releases.bucket import upload
from infra.settings import VARIABLES, Settings
from models.release.artefact import BadRelease, load, read_manifest
from schemas.control import Released
from schemas.releases import MANIFEST, VECTORS
from schemas.state.counting import Counting
from tests.support.releases import ONE, THREE, TWO, saved

FOUR = "2026-11-25.1"


def judged(outcome: str, **fields: Any) -> dict[str, Any]:
    verdict = {"outcome": outcome, "why": f"{outcome} by the gate", "ratio": 1.02, **fields}
    return {"gate": {"coarse": verdict, "ranker": {"outcome": "refused", "why": "it lost"}}}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four releases: one was released, one is undecided, one refused, and the last was cut short."""
    folder = tmp_path_factory.mktemp("written") / "releases"
    interval = {"lower": 0.95, "upper": 1.09}
    undecided = judged("undecided", needed=34_000, **interval)
    saved(folder, ONE, metrics=judged("released", lower=0.98, upper=1.06))
    saved(folder, TWO, parent=ONE, metrics=undecided)
    saved(folder, THREE, parent=ONE, metrics=judged("refused", **interval))
    saved(folder, FOUR)
    cut(folder / FOUR / VECTORS)
    return folder


@pytest.fixture
def kept(written: Path, tmp_path: Path) -> Settings:
    """An installation of a test of its own, with those releases."""
    settings = Settings(data_dir=tmp_path)
    shutil.copytree(written, settings.releases)
    return settings


def control(settings: Settings, current: str = "", **experiments: list[str]) -> ReleaseControl:
    _, sha = read_manifest(settings.releases / ONE)
    registered = {ONE: Released(manifest_sha256=sha)}
    return ReleaseControl(registered, current, None, experiments)


def test_the_list_says_what_each_release_does_and_why(kept: Settings) -> None:
    found = {it.id: it for it in listing.rows(kept, control(kept, ONE))}
    assert list(found) == [FOUR, THREE, TWO, ONE]
    states = {name: it.state for name, it in found.items()}
    assert states == {ONE: "serves", TWO: "candidate", THREE: "lost", FOUR: "broken"}
    assert found[TWO].judged == "undecided 1.020 (0.950 to 1.090), 34,000 choices needed"
    assert found[FOUR].fault.startswith(f"{FOUR}: {VECTORS} is cut short: ")
    assert [it.registered for it in found.values()] == [False, False, False, True]
    assert {it.where for it in found.values()} == {("here",)}
    later = {it.id: it.state for it in listing.rows(kept, control(kept, TWO))}
    assert (later[ONE], later[TWO]) == ("earlier", "serves")
    used = ReleaseControl({}, "", None, {THREE: ["shelf"]})
    assert {it.id: it.state for it in listing.rows(kept, used)}[THREE] == "experiment"


def test_a_release_that_only_the_bucket_has_is_listed_by_its_sizes(
    kept: Settings, tmp_path: Path
) -> None:
    url = str(tmp_path / "shared")
    trains = Settings(data_dir=kept.data_dir, release_url=url)
    serves = Settings(data_dir=tmp_path / "serves", release_url=url)
    for name in (ONE, TWO):
        upload(trains, name)
    saved(serves.releases, THREE)
    rows = {it.id: (it.state, it.where) for it in listing.rows(serves, NOTHING)}
    assert rows == {
        ONE: ("candidate", ("bucket",)),
        TWO: ("candidate", ("bucket",)),
        THREE: ("candidate", ("here",)),
    }
    cut(tmp_path / "shared" / TWO / VECTORS)
    (broken,) = [it for it in listing.rows(serves, NOTHING) if it.state == "broken"]
    assert broken.fault.startswith(f"{TWO}: {VECTORS} is cut short in the bucket: ")
    assert find(serves, NOTHING, ONE).path == serves.releases / ONE
    with pytest.raises(ReleaseRefused, match=f"^{TWO}: {VECTORS} is cut short in the bucket"):
        find(serves, NOTHING, TWO)


def foreign(settings: Settings) -> None:
    path = settings.releases / FOUR / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 9, "what": 1}))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (FOUR, f"{FOUR}: {VECTORS} is cut short: "),
        ("2026-11-24.22", "there is no release 2026-11-24.22, did you mean 2026-11-24.2?"),
        ("x", f"there is no release x: the newest are {FOUR}, {THREE}, {TWO}, {ONE}"),
        ("../x", "there is no release ../x"),
    ],
)
def test_a_release_that_is_not_there_or_broken_is_one_sentence(
    kept: Settings, name: str, sentence: str
) -> None:
    with pytest.raises(ReleaseRefused) as raised:
        find(kept, NOTHING, name)
    assert str(raised.value).startswith(sentence)
    assert raised.value.exit_code == 2


def test_a_manifest_of_another_format_says_which(kept: Settings) -> None:
    foreign(kept)
    with pytest.raises(
        ReleaseRefused, match=f"^{FOUR}: it is of format 9, this code reads 1 and 2$"
    ):
        find(kept, NOTHING, FOUR)


def test_no_release_is_a_sentence_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused, match="there is none yet"):
        find(Settings(data_dir=tmp_path), NOTHING, ONE)


def test_a_release_is_not_the_one_that_was_published(kept: Settings) -> None:
    published = ReleaseControl({ONE: Released(manifest_sha256="0" * 64)}, ONE, None, {})
    with pytest.raises(ReleaseRefused, match="not the one that was published"):
        find(kept, published, ONE)


def test_two_releases_differ_in_what_they_were_made_of(kept: Settings) -> None:
    saved(
        kept.releases,
        "2026-11-26.1",
        features=("popular_24h",),
        coarse={"covisit": 2.0},
        counting=Counting(gap="session"),
        metrics={
            **judged("released"),
            "gain": {"popular_24h": 9.5},
            "arms": {"ranker": {"hit_rate_at_10": 0.2, "ndcg_at_10": 0.1}},
            "dropped": {"bots": 3},
        },
    )
    one, other = (find(kept, NOTHING, name).manifest for name in (TWO, "2026-11-26.1"))
    sections = diff.difference(one, other)
    assert sections["release"]["parent"] == (ONE, "")
    assert sections["counting"]["lag_power"] == (0.5, 1.0)
    assert sections["counting"]["gap"] == ("session", "session")
    assert sections["weights"] == {"covisit": (1.0, 2.0), "popular": (0.1, None)}
    assert sections["features"] == {"popular_24h": (None, 9.5)}
    assert sections["data"]["dropped bots"] == (None, 3)
    assert sections["metrics"]["coarse verdict"] == ("undecided", "released")
    assert sections["metrics"]["ranker NDCG@10"] == (None, 0.1)


@pytest.fixture
def alone(kept: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The four releases, in a folder in which no system runs."""
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(kept.data_dir)
    monkeypatch.setenv("FRESHET_DATA_DIR", str(kept.data_dir))
    return kept


def release(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, ["release", *words], prog_name="freshet")
    assert done.exit_code == code, done.output
    return done


def test_a_card_and_a_comparison_need_no_running_system(alone: Settings) -> None:
    shown = release("show", TWO).stdout
    assert "undecided | 1.020 (0.950 to 1.090) |" in shown
    assert str(alone.releases / TWO / "card.html") in shown
    assert json.loads(release("show", TWO, "--json").stdout)["parent"] == ONE
    table = release("diff", ONE, TWO).stdout
    assert "coarse verdict" in table
    assert "undecided" in table
    assert json.loads(release("diff", ONE, TWO, "--json").stdout)["release"]["parent"] == ["", ONE]
    assert "is cut short" in release("show", FOUR, code=2).stderr
    assert "did you mean" in release("diff", ONE, "2026-11-24.33", code=2).stderr
    assert "nothing runs" in release("promote", TWO, code=2).stderr


def test_a_new_id_is_one_that_no_release_had(kept: Settings) -> None:
    """Not a copy by hand counts, but one whose folder was removed does."""
    day_ms = 1_763_942_400_000  # 2025-11-24
    assert next_id(kept, day_ms, NOTHING) == "2025-11-24.1"
    (kept.releases / "2025-11-24.1.bak").mkdir()
    (kept.releases / "2025-11-24.2").mkdir()
    assert next_id(kept, day_ms, NOTHING) == "2025-11-24.3"
    gone = ReleaseControl({"2025-11-24.7": Released(manifest_sha256="")}, "", None, {})
    assert next_id(kept, day_ms, gone) == "2025-11-24.8"
    assert next_id(kept, day_ms, control(kept, THREE)) == "2026-11-24.4"


def test_a_file_that_grew_is_not_called_short(kept: Settings) -> None:
    vectors = kept.releases / ONE / VECTORS
    size = vectors.stat().st_size
    with vectors.open("ab") as file:
        file.write(b"more")
    fault = f"{ONE}: {VECTORS} is corrupt: {size + 4} bytes, not {size}"
    found = {it.id: it.fault for it in listing.rows(kept, NOTHING)}
    assert found[ONE] == fault
    with pytest.raises(BadRelease, match=fault) as raised:
        load(kept.releases / ONE)
    assert raised.value.code == "corrupt"
