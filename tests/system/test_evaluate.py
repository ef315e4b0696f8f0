"""`freshet evaluate`: from data to its files, in two processes, refused, and read in a browser."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from html import escape
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from infra.apps.evaluate import player
from infra.datasets.generated import generated
from tests.support.demo_data import movielens_folder
from tests.system.test_cli import freshet

pytestmark = [pytest.mark.check, pytest.mark.timeout(300)]
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
PHONE, DESK = 360, 1_200
"""Widths in CSS pixels."""
MEASURE = """<body><iframe width={width} height=800 srcdoc="{page}"></iframe><script>
onload = () => {{ const page = frames[0].document.documentElement;
document.title = page.scrollWidth + " " + getComputedStyle(page.querySelector("svg")).height; }}
</script></body>"""


def clicks(path: Path, rows: int) -> Path:
    """The first likes of the generated audience, as clicks."""
    liked = [it for it in generated().ratings if it.action == "like"][:rows]
    lines = [f"{it.user_id},{it.at // 1000},{it.item_id}" for it in liked]
    path.write_text("\n".join(["session_id,timestamp,item_id", *lines]) + "\n")
    return path


def evaluated(folder: Path, *arguments: object) -> tuple[dict[str, Any], Result]:
    done = freshet("evaluate", *arguments, "--json", "--data-dir", folder)
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout), done


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A set that is long enough to train on, and the folder of its files."""
    folder = tmp_path_factory.mktemp("evaluated")
    found, _ = evaluated(folder, "--data", clicks(folder / "shop.csv", 4_000), "--targets", 150)
    return found, folder / "evaluate"


def test_a_release_is_trained_on_the_history_and_serves_where_the_gate_says(
    trained: tuple[dict[str, Any], Path],
) -> None:
    found, folder = trained
    assert found["data"] == "shop"
    assert {"coarse", "ranker"} <= found["gate"].keys()
    released = {name for name, it in found["gate"].items() if it["outcome"] == "released"}
    assert (found["served"] == "candidate") <= bool(released)
    assert ("candidate" in found) == (found["served"] == "built_in")
    assert json.loads((folder / "shop-prequential.json").read_text()) == found
    assert "candidate" in (folder / "shop-prequential.html").read_text()


def test_two_processes_give_what_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ("--data", clicks(tmp_path / "shop.csv", 900), "--targets", 60, "--delay", "1h")
    one, _ = evaluated(tmp_path, *data)
    monkeypatch.setattr(player, "MIN_ACTS", 1)
    two, _ = evaluated(tmp_path, *data)
    assert {**two, "seconds": 0} == {**one, "seconds": 0}


@pytest.mark.parametrize("protocol", ["leave-one-out", "judged"])
def test_films_are_evaluated_by_every_protocol(tmp_path: Path, protocol: str) -> None:
    folder = movielens_folder(tmp_path / "films")
    split = ("--split", 0.2) if protocol == "judged" else ()
    found, _ = evaluated(tmp_path, "--data", folder, "--protocol", protocol, *split)
    assert found["protocol"] == protocol
    assert (tmp_path / "evaluate" / f"films-{protocol}.html").is_file()


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        ([], (), ""),
        (["u1,i1,10"] * 1, (), "one item"),
        ([f"u{n},i1,{n}" for n in range(30)], (), "one item"),
        ([f"u{n % 3},i{n},77" for n in range(30)], (), "same time"),
        ([f"u{n % 3},i{n},{n}" for n in range(30)], ("--split", 1), "between 0 and 1"),
        ([f"u{n % 3},i{n},{n}" for n in range(30)], ("--split", "nan"), "between 0 and 1"),
        ([f"u{n % 3},i{n},{n}" for n in range(30)], ("--delay", "1basket"), "has none"),
        ([f"u{n % 3},i{n},{n}" for n in range(30)], ("--delay", "soon"), "--delay"),
        ([f"u{n % 3},i{n},{n}" for n in range(30)], ("--seeds", "1,x"), "whole numbers"),
        ([f"u{n % 3},i{n},{n}" for n in range(30)], ("--protocol", "judged"), "ratings"),
        ([f"u{n},i{n},{n}" for n in range(9)], ("--protocol", "leave-one-out"), "come back"),
        (["what", "is", "this"], (), ""),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(
    tmp_path: Path, lines: list[str], options: tuple[object, ...], said: str
) -> None:
    path = tmp_path / "acts.csv"
    header = [] if lines[:1] == ["what"] else ["user_id,item_id,timestamp"]
    path.write_text("\n".join([*header, *lines]) + "\n")
    done = freshet("evaluate", "--data", path, *options, "--data-dir", tmp_path, code=2)
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.output
    assert (
        len([it for it in done.stderr.splitlines() if it.startswith(("freshet:", "Error:"))]) == 1
    )


def test_a_folder_that_takes_no_file_is_refused_before_any_work(tmp_path: Path) -> None:
    data = clicks(tmp_path / "shop.csv", 900)
    done = freshet("evaluate", "--data", data, "--out", data / "below", code=2)
    assert done.stderr.startswith("freshet: ")
    assert "--out" in done.stderr


def test_ctrl_c_ends_both_processes_without_a_word_of_theirs(tmp_path: Path) -> None:
    data = clicks(tmp_path / "shop.csv", 40_000)
    options = ("--data", str(data), "--data-dir", str(tmp_path))
    command = [sys.executable, "-m", "infra.cli", "evaluate", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as started:
        assert started.stderr is not None
        said = started.stderr.readline()  # the set was read: the second process starts
        os.killpg(started.pid, signal.SIGINT)
        out, rest = started.communicate(timeout=60)  # also of what inherited its streams
    assert started.returncode == 1
    assert out == ""
    assert "Traceback" not in said + rest
    assert not [*(tmp_path / "evaluate").iterdir()]


def test_a_name_that_is_not_there_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    where = ("--data-dir", tmp_path)
    assert "one of these sets" in freshet("evaluate", "--data", "no-such", *where, code=2).stderr
    (tmp_path / "nothing").mkdir()
    freshet("evaluate", "--data", tmp_path / "nothing", *where, code=2)


@pytest.mark.skipif(not BROWSER, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_report_fits_a_phone_and_a_desk(
    trained: tuple[dict[str, Any], Path], tmp_path: Path, width: int
) -> None:
    page = (trained[1] / "shop-prequential.html").read_text()
    frame = tmp_path / "frame.html"
    frame.write_text(MEASURE.format(width=width, page=escape(page)))
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width + 60},900"]
    dumped = subprocess.run(
        [*command, frame.as_uri()], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    title = dumped.partition("<title>")[2].partition("</title>")[0].split()
    assert int(title[0]) <= width
    assert float(title[1].removesuffix("px")) > 20
