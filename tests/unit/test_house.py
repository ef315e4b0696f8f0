"""The house: imports point one way, every module stands alone, a flow reads like its diagram."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from bytewax.dataflow import Dataflow
from bytewax.visualize import to_mermaid

from infra.cli.run import module_of
from schemas import keys
from schemas.export import json_schemas
from schemas.flows import BY_NAME
from schemas.topics import TOPICS
from tests.support import order

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "models", "infra", "flows", "serving")
GOLDEN = ROOT / "tests" / "golden"

# As in a fresh process, module by module: nothing of ours is loaded. Other people's libraries are, once, and
# nothing is forked: a start of Python takes a second, a fork of one that holds them all 20 ms.
_IMPORT_EACH = """
import gc, importlib, os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
for library in ("numpy", "kafka", "redis", "redis.asyncio", "fastapi", "uvicorn", "bytewax.operators",
                "onnxruntime", "usearch.index", "msgspec", "rich.console", "click", "httpx", "duckdb",
                "kafka.admin", "lightgbm", "onnxmltools", "prometheus_client", "pyarrow.parquet",
                "river.stats"):
    importlib.import_module(library)
gc.freeze()
gc.set_threshold(50_000, 20, 100)  # a fifth of the time would go into looking for garbage
at = sys.argv.index("--")
ours, modules = sys.argv[1:at], sys.argv[at + 1:]
failed = []
for name in modules:
    for module in [it for it in sys.modules if it.partition(".")[0] in ours]:
        del sys.modules[module]
    try:
        importlib.import_module(name)
    except BaseException as error:
        print(f"{name}: {type(error).__name__}: {error}", flush=True)
        failed.append(name)
sys.exit(bool(failed))
"""


def modules() -> list[str]:
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            if not name.endswith("__main__"):
                found.append(name.removesuffix(".__init__"))
    return found


def test_every_module_imports_in_a_fresh_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_EACH, *PACKAGES, "--", *modules()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_point_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def bare(worker: type[Any]) -> Any:
    """A worker that can be drawn: it has its steps, and no connections."""
    made: Any = object.__new__(worker)
    made.partitions, made.reader, made.gatherer = [0], None, None
    return made


UNDRAWN = {"rollup", "relay"}
"""Flows that tail streams in Redis: no Kafka dataflow."""


@pytest.mark.parametrize("name", [name for name in BY_NAME if name not in UNDRAWN])
def test_a_flow_is_what_its_drawing_says(name: str) -> None:
    """Run with UPDATE_GOLDEN=1 to redraw, then look at the difference."""
    draw = module_of(name).dataflow
    worker = next(iter(get_type_hints(draw).values()))
    flow: Dataflow = draw(bare(worker))
    check_golden(f"{name}.mmd", to_mermaid(flow))


def test_the_schemas_of_the_wire_are_the_exported_ones() -> None:
    check_golden("schemas.json", json.dumps(json_schemas(), indent=1, sort_keys=True))


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text + "\n")
    held = path.read_text() if path.exists() else ""
    assert held == text + "\n", f"{name} changed or is new: UPDATE_GOLDEN=1, then read the diff"


def test_every_topic_has_a_key_writers_readers_and_a_retention() -> None:
    for topic in TOPICS:
        assert topic.key
        assert topic.writers
        assert topic.readers
        assert topic.retention_ms == -1 or topic.retention_ms > 0
        assert topic.config["message.timestamp.type"] == "CreateTime"
    assert len({topic.name for topic in TOPICS}) == len(TOPICS)


def test_every_key_is_rebuilt_from_a_topic_or_expires() -> None:
    names = {topic.name for topic in TOPICS}
    assert all(key.what for key in keys.KEYS)
    assert all(key.rebuilt_from in names for key in keys.KEYS if not key.expires)


def test_the_files_of_tests_that_begin_first_are_there() -> None:
    missing = [it for it in order.LONGEST if it != order.APACHE and not (ROOT / it).is_file()]
    assert missing == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_what_a_document_points_to_is_there(name: str) -> None:
    text = (ROOT / name).read_text()
    targets = re.findall(r"\]\(([\w./-]+)\)", text) + re.findall(r'click \w+ "([\w./-]+)"', text)
    assert [it for it in targets if not (ROOT / it).exists()] == []
