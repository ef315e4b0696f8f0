"""The tests of compiled functions once more, on a kernel that looks for undefined behaviour and for access
beyond what it was given (AddressSanitizer, UndefinedBehaviorSanitizer)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from models.kernels import build
from models.kernels.loading import VARIABLE, kernel, missing
from tests.unit.test_house import ROOT

TESTS: Final = (
    "tests/unit/models/kernels",
    "tests/unit/models/test_act.py",
    "tests/unit/models/test_stored_rows.py",
    "tests/laws/test_decision_laws.py::test_the_kernel_decides_as_python_does",
    "tests/unit/serving/test_decision_bytes.py::test_damaged_bytes_are_refused_or_decided_as_python_does",
    "tests/unit/serving/test_decision_middle.py",
    "tests/laws/test_best_partners_laws.py",
    "tests/unit/serving/test_compiled.py",
    "tests/unit/serving/test_scan.py",
)
"""Those that hold compiled functions against their definitions."""
_FLAGS: Final = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
_OUT_OF_BOUNDS: Final = """
from models.kernels.loading import kernel
kernel.lib.hash_xxh3(kernel.ffi.new("uint8_t[8]"), 16, 0)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a process with a kernel that is sanitized."""
    if kernel is None:
        pytest.skip(missing)
    made = tmp_path_factory.mktemp("sanitized") / "kernel.so"
    try:
        build.build(made, _FLAGS)
    except build.NotBuilt as error:
        pytest.skip(f"the compiler has no sanitizers: {error}")
    asked = [*build.compiler(), "-print-file-name=libasan.so"]
    library = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(library).is_absolute():
        pytest.skip("the compiler has no libasan.so")
    return {
        "EXAMPLES": "few",
        **os.environ,
        VARIABLE: str(made),
        "LD_PRELOAD": library,
        "PYTHONMALLOC": "malloc",  # so that each object of Python has bounds of its own
        "ASAN_OPTIONS": "detect_leaks=0",
    }


def run(*words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.check
def test_a_read_beyond_the_end_is_found(environment: dict[str, str]) -> None:
    done = run("-c", _OUT_OF_BOUNDS, environment=environment)
    assert done.returncode
    assert "heap-buffer-overflow" in done.stderr


@pytest.mark.check
@pytest.mark.timeout(600)
def test_the_kernel_has_no_undefined_behaviour(environment: dict[str, str]) -> None:
    words = (
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-x",
        "-m",
        "not check",
        "-p",
        "no:cacheprovider",
        *TESTS,
    )
    done = run(*words, environment=environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "skipped" not in done.stdout
