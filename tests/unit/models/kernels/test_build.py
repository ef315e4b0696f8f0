"""The kernel: where a compiler is, it is built of these sources; where none is, numpy runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from models.kernels import build, loading
from tests.unit.test_house import ROOT

_LOAD = "from models.kernels import loading; print(loading.kernel is None, loading.missing)"


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.skipif(loading.missing.endswith("=off"), reason="the kernel is turned off")
def test_the_kernel_is_built_of_these_sources() -> None:
    """Where it fails: `make`, or `python -m models.kernels.build`."""
    assert loading.kernel is not None, loading.missing
    compiled = loading.kernel.ffi.string(loading.kernel.lib.source_digest()).decode()
    assert compiled.partition(" ")[0] == build.digest()


def test_every_c_file_is_compiled() -> None:
    found = [it for name in ("models", "serving") for it in (ROOT / name).rglob("*.c")]
    assert {str(it.relative_to(ROOT)) for it in found} == set(build.SOURCES)


def test_without_the_kernel_a_process_says_why_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOAD],
        cwd=ROOT,
        env={**os.environ, loading.VARIABLE: loading.OFF},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "True FRESHET_KERNEL=off"
    assert done.stderr.count("no compiled kernel, numpy runs: FRESHET_KERNEL=off") == 1


def test_a_build_that_is_asked_for_must_load(tmp_path: Path) -> None:
    (tmp_path / "kernel.so").write_bytes(b"")
    for name in (str(tmp_path / "kernel.so"), "on"):
        with pytest.raises(loading.BadKernel, match="FRESHET_KERNEL takes off"):
            loading.load(name)


@pytest.mark.skipif(loading.kernel is None, reason=loading.missing)
def test_a_kernel_of_other_sources_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an edit that does not compile, or a pull without `make`."""
    monkeypatch.setattr(build, "digest", lambda: "another")
    kernel, why = loading.load("")
    assert kernel is None
    assert "built of other sources" in why


@pytest.mark.skipif(loading.kernel is None, reason=loading.missing)
def test_a_kernel_whose_sources_are_not_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SOURCES", ("models/none.c",))
    assert loading.load("")[0] is not None


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_a_compiler_that_fails_leaves_no_kernel(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(build.NotBuilt, match=compiler):
        build.build(tmp_path / "kernel.so")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.check
def test_an_installation_without_a_compiler_succeeds(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        tree.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "schemas", tree / "schemas")
    for name in ("models", "serving"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("*.so"))
    code = "from setuptools import build_meta as it; it.build_wheel('out')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree,
        env={**os.environ, "CC": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "no kernel was built, numpy will run: false" in done.stderr
    (wheel,) = (tree / "out").glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "there", "zip")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "there")}
    answer = subprocess.run(
        [sys.executable, "-c", _LOAD],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.startswith("True none was built at the installation")
