"""No file imports, by whatever way round, a file that imports it; chains of imports stay short; what is pure
stays pure. The directions between rooms are contracts in pyproject.toml."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import KeysView
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "models", "infra", "flows", "serving")
LEVELS = 10
FILES = 25


def imports() -> dict[str, set[str]]:
    """Of each file what it imports of ours: in functions and for the type checker, too."""
    files = {_name(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    return {name: _imported(path, files.keys()) - {name} for name, path in files.items()}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imported(path: Path, names: KeysView[str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in names else node.module for name in inner}
    return found & names


def test_no_file_imports_itself_by_way_of_others() -> None:
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail("a cycle: " + " <- ".join(error.args[1]))


def test_serving_has_few_levels() -> None:
    """The longest chain of imports between its files; run with -s to see it."""
    graph = {
        name: {it for it in imported if it.startswith("serving.")}
        for name, imported in imports().items()
        if name.startswith("serving.")
    }
    longest: dict[str, list[str]] = {}
    for name in TopologicalSorter(graph).static_order():
        below = max((longest[it] for it in graph[name]), key=len, default=[])
        longest[name] = [name, *below]
    chain = max(longest.values(), key=len)
    print(f"{len(chain)} levels: {' > '.join(chain)}")
    assert len(chain) <= LEVELS, chain


def test_a_folder_holds_few_enough_files_to_survey() -> None:
    for package in PACKAGES:
        for folder in [ROOT / package, *(ROOT / package).rglob("*/")]:
            files = list(folder.glob("*.py"))
            assert len(files) <= FILES, f"{folder.relative_to(ROOT)} holds {len(files)} files"


def test_each_package_says_what_belongs_to_it_and_imports_nothing() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("__init__.py"):
            tree = ast.parse(path.read_text())
            assert ast.get_docstring(tree), f"{path.relative_to(ROOT)} does not say what may enter"
            # every process that imports a module of the package pays for its imports
            assert len(tree.body) == 1, f"{path.relative_to(ROOT)} holds more than its sentence"


@pytest.mark.parametrize("room", ["serving/decide", "serving/world"])
def test_a_decision_is_arithmetic_on_its_arguments(room: str) -> None:
    allowed = {"models", "schemas", "numpy", "usearch", "msgspec"} | sys.stdlib_module_names
    forbidden = {"asyncio", "os", "random", "secrets", "socket", "threading", "time", "logging"}
    for path in (ROOT / room).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            for name in names:
                first = name.partition(".")[0]
                pure = name.startswith(("serving.decide", "serving.world")) or first in allowed
                assert pure, f"{path.name} imports {name}"
                assert first not in forbidden, f"{path.name} imports {name}"


def test_training_loads_no_client_of_redis() -> None:
    """Training replays the serving decision without the clients of serving."""
    code = "import sys, infra.apps.train.run; print(*{'redis', 'fastapi'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_access_knows_no_http() -> None:
    for path in (ROOT / "serving" / "access").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                first = getattr(node, "module", None) or node.names[0].name
                assert first.partition(".")[0] not in ("starlette", "fastapi", "uvicorn"), path
                assert not first.startswith("serving.http"), path
