"""The generator is compiled where it is missing or old; a failure is a sentence."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from infra.apps.bench import load
from infra.apps.bench.load import Generator, NotMeasured, Probing, build, step
from infra.local.services import NoService
from infra.shipped import Incomplete

PROGRAM = '#include <stdio.h>\nint main(void) { puts("made"); return 0; }\n'
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, load.COMPILERS)), reason="no C compiler here"
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "load.c"
    path.write_text(PROGRAM)
    return path


@needs_compiler
def test_the_generator_is_compiled_where_missing_and_again_where_older(
    tmp_path: Path, source: Path
) -> None:
    target = build(tmp_path / "bin" / "load", source)
    assert os.access(target, os.X_OK)
    made = target.stat()
    assert build(target, source).stat().st_mtime_ns == made.st_mtime_ns, "it is new enough"
    os.utime(target, (made.st_atime, source.stat().st_mtime - 1))
    assert build(target, source).stat().st_mtime >= source.stat().st_mtime
    assert [it.name for it in target.parent.iterdir()] == ["load"]


@needs_compiler
def test_a_source_that_does_not_compile_leaves_the_old_binary(tmp_path: Path, source: Path) -> None:
    target = build(tmp_path / "load", source)
    before = target.read_bytes()
    source.write_text("int main(void) { return nothing; }\n")
    os.utime(target, (0, 0))
    with pytest.raises(NoService, match=r"cannot compile load\.c: .*nothing"):
        build(target, source)
    assert target.read_bytes() == before


def test_without_a_compiler_a_sentence_says_what_to_install(tmp_path: Path, source: Path) -> None:
    with pytest.raises(NoService, match=r"no C compiler here .* apt-get install gcc"):
        build(tmp_path / "load", source, compilers=("no-such-compiler",))


def test_without_its_source_a_sentence_says_to_install_again(tmp_path: Path) -> None:
    with pytest.raises(
        Incomplete, match=r"missing\.c is missing from this installation: install it again"
    ):
        build(tmp_path / "load", tmp_path / "missing.c")


def test_the_source_lies_beside_its_module() -> None:
    assert load.SOURCE.is_file()


def _script(folder: Path, text: str) -> Generator:
    """A generator whose binary is a shell script."""
    path = folder / "fake"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return Generator(path, "http://127.0.0.1:8080", folder)


def test_the_command_line_is_the_generators_own(tmp_path: Path) -> None:
    generator = _script(tmp_path, """printf '{"said":"'; printf '%s ' "$@"; printf '"}'""")
    said = generator.reads(["/a", "/b"], 300, 5)["said"]
    assert said.startswith("reads --host 127.0.0.1 --port 8080 --paths ")
    assert "--seconds 5 --warmup 1 --connections 256 --rate 300" in said
    assert (tmp_path / "paths").read_text() == "/a\n/b\n"
    assert "--rate" not in generator.closed(["/a"], 2, 8)["said"]
    said = generator.events([("u1", "{}")], 1000, 5, Probing(50))["said"]
    assert "--probe-every 50 --probe-path /v1/recommendations?user_id=%s&count=10" in said
    assert "--timeline" not in said
    said = generator.events([("u1", "{}")], 1000, 5, Probing(50, timeline=tmp_path / "seen"))[
        "said"
    ]
    assert f"--timeline {tmp_path / 'seen'}" in said
    assert "--probe-every" not in generator.events([("u1", "{}")], 1000, 5)["said"]
    assert (tmp_path / "bodies").read_text() == "u1\t{}\n"


def test_a_refusal_carries_the_sentence_of_the_generator(tmp_path: Path) -> None:
    generator = _script(tmp_path, "echo 'load: no such rate' >&2; exit 2")
    with pytest.raises(NotMeasured, match="no such rate"):
        generator.reads(["/a"], 1, 1)


def test_a_report_becomes_a_step() -> None:
    report = {
        "rate": 100,
        "requests_per_s": 99.5,
        "latency_ms": {"p95": 12.5, "p99": 20.0},
        "errors": {"timeout": 1, "status_5xx": 2},
    }
    assert step(report) == (100, 99.5, 12.5, 3)
    assert step(report, "p99").tail_ms == 20.0
    report["latency_ms"] = {"p95": None}
    assert step(report).tail_ms == float("inf")
