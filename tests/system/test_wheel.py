"""The distribution: what its archives hold, and that a wheel works in a folder with modules of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

import pytest

from infra.local import home, services
from infra.local.plan import ROOT
from infra.settings import Settings, to_environment
from infra.signals import die_with_parent
from infra.version import RELEASE
from models.kernels import build
from models.kernels.loading import kernel
from tests.support.demo_data import movielens_folder
from tests.support.waits import until
from tests.unit.test_house import PACKAGES

OTHERS: Final = ("models.py", "schemas/__init__.py", "infra/__init__.py", "flows.py", "redis.py")
"""Modules of the folder where Freshet is called: each raises on import."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, where a build may leave files."""
    made = tmp_path_factory.mktemp("build") / "tree"
    kept = [it for it in ROOT.iterdir() if it.name == ".ci" or it.name[0] != "."]
    made.mkdir()
    for it in kept:
        if it.name in {"build", "dist", "data", "shared"} or it.suffix == ".egg-info":
            continue
        if it.is_dir():
            shutil.copytree(
                it, made / it.name, ignore=shutil.ignore_patterns("__pycache__", "*.so")
            )
        else:
            shutil.copy(it, made)
    return made


@pytest.fixture(scope="module")
def built(tree: Path) -> tuple[set[str], set[str]]:
    """The files of the wheel and of the sdist."""
    code = "from setuptools import build_meta as it; it.build_sdist('out'); it.build_wheel('out')"
    subprocess.run([sys.executable, "-c", code], cwd=tree, check=True, capture_output=True)
    (wheel,), (sdist,) = (tree / "out").glob("*.whl"), (tree / "out").glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive, tarfile.open(sdist) as tar:
        files = {it.name.partition("/")[2] for it in tar.getmembers() if it.isfile()}
        return set(archive.namelist()), files


def test_an_archive_holds_what_belongs_to_it(built: tuple[set[str], set[str]], tree: Path) -> None:
    wheel, sdist = built
    ours = {
        str(it.relative_to(tree))
        for package in PACKAGES
        for it in (tree / package).rglob("*")
        if it.is_file() and it.suffix != ".pyc"  # of the build itself
    }
    assert {f"{package}/py.typed" for package in PACKAGES} <= ours
    assert ours - wheel == set()
    compiled = {str(build.place().relative_to(ROOT))}
    assert {it.partition("/")[0] for it in wheel - ours - compiled} == {
        f"freshet_recommender-{RELEASE}.dist-info"
    }
    assert (compiled <= wheel) == (kernel is not None)
    beside = {
        "setup.py",
        "docker-compose.yml",
        "Makefile",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
    }
    tests = {str(it.relative_to(tree)) for it in (tree / "tests").rglob("*") if it.is_file()}
    assert (ours | tests | beside | {".ci/run", "pyproject.toml"}) - sdist == set()


class Installed:
    """The wheel, in an environment with what a lock lists and nothing else. Of what it starts the working
    folder is `folder`, where the modules of others lie."""

    def __init__(self, root: Path, wheel: Path, lock: str) -> None:
        self._venv, self.folder = root / "venv", root / "work"
        venv.create(self._venv, symlinks=True, with_pip=False)
        (self.site,) = (self._venv / "lib").glob("python*/site-packages")
        text = (ROOT / "infra" / "lock" / lock).read_text()
        _link(set(map(_plain, re.findall(r"^([\w.-]+)==", text, re.MULTILINE))), self.site)
        command = [sys.executable, "-m", "pip", "--python", str(self._venv / "bin" / "python")]
        command += ["install", "--quiet", "--no-index", "--no-deps", "--no-compile", str(wheel)]
        subprocess.run(command, check=True)
        for name in OTHERS:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text("raise RuntimeError('a module of the working folder')")

    def popen(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        ours = ("FRESHET_", "PYTHON", "KAFKA_", "REDIS_")
        kept = {key: it for key, it in os.environ.items() if not key.startswith(ours)}
        return subprocess.Popen(
            [self._venv / "bin" / "freshet", *words],
            cwd=self.folder,
            env={**kept, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=die_with_parent(),
        )

    def run(self, *words: str, code: int = 0) -> str:
        """Runs a command and answers its output as one line."""
        process = self.popen(*words)
        said, _ = process.communicate(timeout=100)
        assert process.returncode == code, said
        return " ".join(said.split())

    @contextmanager
    def running(
        self, *words: str, ready: Callable[[], bool], **environment: str
    ) -> Iterator[subprocess.Popen[str]]:
        """A process that runs until the block is left; it must not exit before, and must exit with 0."""
        process = self.popen(*words, **environment)
        try:
            until(lambda: process.poll() is not None or ready(), 60)
            if process.poll() is not None:
                pytest.fail(process.communicate()[0])
            yield process
        finally:
            process.terminate()
            said, _ = process.communicate(timeout=30)
        assert process.returncode == 0, said


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _link(names: set[str], site: Path) -> None:
    """Links to these distributions, as they are installed where the tests run."""
    for it in distributions():
        if _plain(it.metadata["Name"]) in names:
            tops = {file.parts[0] for file in it.files or () if file.parts[0] != ".."}
            for top in tops - {"__pycache__"}:
                if not (site / top).exists():
                    (site / top).symlink_to(Path(str(it.locate_file(top))))


@pytest.fixture(scope="module")
def wheel(tree: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", "wheels", "."]
    subprocess.run(command, cwd=tree, check=True)
    (made,) = (tree / "wheels").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def whole(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """What `pip install freshet-recommender` gives."""
    return Installed(tmp_path_factory.mktemp("whole"), wheel, "run.txt")


@pytest.mark.check
def test_a_wheel_runs_the_system_anywhere(whole: Installed) -> None:
    assert whole.run("--version") == RELEASE
    data = whole.folder / ".freshet"
    port = services.free_port()

    def ready() -> bool:
        up = home.read(data)
        return up is not None and up.ready

    with whole.running("up", "--workers", "1", "--port", str(port), ready=ready):
        url = f"http://127.0.0.1:{port}"
        token = whole.run("token").strip()
        assert _ask(f"{url}/v1/items", {"item_id": "alien", "title": "Alien"}, token)
        (position,) = _ask(f"{url}/v1/events", CLICK, token)["positions"]
        path = f"/v1/recommendations?user_id=ann&max_wait_ms=5000&after={position}"
        read = _ask(f"{url}{path}", None, token)
        assert read["served_by"]["release"] == RELEASE
        assert "all as the log says" in whole.run("verify")
        sentence = whole.run("train", code=2)
        assert sentence.startswith("freshet: training needs lightgbm, onnxmltools, skl2onnx")
        assert sentence.endswith("pip install 'freshet-recommender[train]'")
    assert {it.name for it in data.iterdir()} >= {home.MARKER_FILE, "logs"}


@pytest.mark.check
def test_a_wheel_runs_the_demo_anywhere(whole: Installed, tmp_path: Path) -> None:
    data = movielens_folder(tmp_path / "data")
    words = ["--sample", "20", "--population", "0", "--no-stay", "--data", str(data)]
    said = whole.run("demo", *words)
    assert "left out: a trained release, and what it is worth; training needs lightgbm" in said
    assert "pip install 'freshet-recommender[train]'" in said
    report = json.loads((whole.folder / ".freshet" / "demo" / "report.json").read_bytes())
    assert report["errors"] == 0
    assert report["in_process_equals_live"] is True


@pytest.mark.check
def test_a_wheel_without_its_files_says_so(whole: Installed) -> None:
    file = whole.site / "infra" / "apps" / "bench" / "load.c"
    held = file.read_bytes()
    file.unlink()
    try:
        assert "training needs" in whole.run("bench", "--only", "reads", code=2)
        assert whole.run("bench", "--only", "freshness", code=2) == (
            f"freshet: {file} is missing from this installation: install it again from a complete wheel"
            " (pip install --force-reinstall freshet-recommender)"
        )
    finally:
        file.write_bytes(held)


@pytest.mark.check
def test_a_host_serves_with_what_serving_needs_alone(
    wheel: Path, settings: Settings, tmp_path: Path
) -> None:
    alone = Installed(tmp_path, wheel, "serve.txt")
    url = f"http://127.0.0.1:{settings.port}"
    environment = to_environment(settings)
    with alone.running("serve", ready=lambda: services.http_answers(url), **environment):
        assert _ask(f"{url}/v1/events", CLICK)["durable"] == "broker"
        assert _ask(f"{url}/v1/recommendations?user_id=ann")["served_by"]["release"] == RELEASE


CLICK: Final = {"user_id": "ann", "item_id": "alien", "action": "click"}


def _ask(url: str, body: object = None, token: str = "") -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    with urlopen(Request(url, data, headers), timeout=10) as answer:
        answer_body: dict[str, Any] = json.loads(answer.read())
        return answer_body
