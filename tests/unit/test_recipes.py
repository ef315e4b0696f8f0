"""CONTRIBUTING's recipes, each applied to a copy of the tree, and its commands run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.whole import whole_only

ROOT = Path(__file__).resolve().parents[2]
COPIED = (
    "schemas",
    "models",
    "infra",
    "flows",
    "serving",
    "tests",
    "pyproject.toml",
    "docker-compose.yml",
)
_RECIPE = re.compile(r"^## Recipe: (.+?)\n(.*?)(?=^## |\Z)", re.M | re.S)
_BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.S)
_FILE = re.compile(r"`([\w/-]+\.\w+)`")

ALIKE = ("add a candidate source", "add a column")
"""They end as the recipe of a rule does: with an entry of the kernel."""
RECIPES = dict(_RECIPE.findall((ROOT / "CONTRIBUTING.md").read_text()))


def test_each_extension_point_has_a_recipe() -> None:
    assert set(RECIPES) == {
        "add a feature",
        "add a candidate source",
        "add a rule",
        "add a column",
        "add a dataflow",
        "add a route",
        "add a metric of experiments",
        "add a command",
    }


@pytest.mark.check
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "name",
    [pytest.param(it, marks=whole_only) if it in ALIKE else it for it in sorted(RECIPES)],
)
def test_a_recipe_applies_and_its_commands_pass(name: str, tmp_path: Path) -> None:
    for copied in COPIED:
        source = ROOT / copied
        if source.is_dir():
            shutil.copytree(source, tmp_path / copied)  # with what is compiled already
        else:
            shutil.copy(source, tmp_path / copied)
    files = " ".join(apply(RECIPES[name], tmp_path))
    run(f"ruff check --no-cache {files} && ruff format --no-cache --check {files}", tmp_path)


def apply(recipe: str, tree: Path) -> set[str]:
    """Files are the last one named in the text before their block; `sh` blocks are run. Answers the modules
    that it made or changed."""
    commands, at, path, modules = 0, 0, "", set()
    for block in _BLOCK.finditer(recipe):
        named = _FILE.findall(recipe[at : block.start()])
        path, at = (named[-1] if named else path), block.end()
        kind, body = block.groups()
        if kind in ("python", "c"):
            (tree / path).write_text(body)
        elif kind == "diff":
            edit(tree / path, body)
        else:
            commands += 1
            run(body, tree)
        if kind != "sh" and path.endswith(".py"):
            modules.add(path)
    assert commands, "a recipe ends in a command that shows it worked"
    return modules


def edit(path: Path, diff: str) -> None:
    lines = diff.splitlines()
    before = "\n".join(line[1:] for line in lines if line[:1] in ("-", " "))
    after = "\n".join(line[1:] for line in lines if line[:1] in ("+", " "))
    text = path.read_text()
    assert text.count(before) == 1, (
        f"{path.name}: {before!r} stands there {text.count(before)} times"
    )
    path.write_text(text.replace(before, after))


def run(command: str, tree: Path) -> None:
    """As a shell of its own, which takes what it started with it where the test ends before it."""
    shell = subprocess.Popen(
        ["bash", "-euc", command],
        cwd=tree,
        env={
            **os.environ,
            "EXAMPLES": "few",
            "PYTHONPATH": str(tree),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with shell:
        try:
            said, _ = shell.communicate()
        except BaseException:
            os.killpg(shell.pid, signal.SIGKILL)
            raise
    assert shell.returncode == 0, said
