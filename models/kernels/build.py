"""Builds the extension module `models.kernels._kernel`: `python -m models.kernels.build` does it in place.

A C file lies beside the Python file that defines the same functions. What Python calls is marked with
KERNEL (`kernel.h`), at the beginning of a line; its declaration is read from there. To add a C file, name
it in `SOURCES`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).resolve().parent
SOURCES: Final = (
    "models/aggregates/best_partners.c",
    "models/kernels/blake2b.c",
    "models/dedupe.c",
    "models/kernels/hash.c",
    "models/kernels/repeated_keys.c",
    "models/outcomes/impressions.c",
    "models/outcomes/layout.c",
    "models/outcomes/stored_join.c",
    "models/outcomes/strangers.c",
    "models/records.c",
    "models/release/person.c",
    "models/release/trees.c",
    "models/slots.c",
    "models/features/act.c",
    "models/features/counts.c",
    "models/features/days.c",
    "models/features/enter.c",
    "models/features/session.c",
    "models/features/stored.c",
    "models/features/window.c",
    "serving/world/scan.c",
    "serving/decide/arrange.c",
    "serving/decide/case.c",
    "serving/decide/columns.c",
    "serving/decide/decide.c",
    "serving/decide/explain.c",
    "serving/decide/groups.c",
    "serving/decide/leaning.c",
    "serving/decide/listed.c",
    "serving/decide/rank.c",
    "serving/decide/rules.c",
    "serving/decide/score.c",
    "serving/decide/sources.c",
)
"""From the root of the repository."""
FLAGS: Final = (
    "-O3", "-std=gnu11", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra",
    "-Wno-unused-parameter",
    "-ffp-contract=off",  # a * b + c is rounded twice, as numpy rounds it
    "-fno-strict-aliasing",  # rows are bytes that are read as numbers
)  # fmt: skip
TYPES: Final = (
    "models/release/trees.h",
    "serving/decide/columns.h",
    "serving/decide/decision.h",
)
"""Headers of which Python reads types: what KERNEL_TYPE marks, and the numbers that these use."""
_TYPE: Final = re.compile(
    r"^KERNEL_TYPE\s+(typedef struct \{.*?^\} \w+;|enum \{[^}]*\};)", re.MULTILINE | re.DOTALL
)
_NUMBER: Final = re.compile(r"^#define (\w+) (\d+)\b", re.MULTILINE)
_DECLARED: Final = re.compile(r"^KERNEL\s+([^{;]+?)\s*\{", re.MULTILINE)
_MAX_LINES: Final = 20
"""Of a compiler's message."""


class NotBuilt(Exception):
    """No kernel was built; the text says why."""


def place() -> Path:
    """The file of the extension module in this tree."""
    return HERE / f"_kernel{sysconfig.get_config_var('EXT_SUFFIX')}"


def headers() -> list[Path]:
    return [*sorted(HERE.glob("*.h")), *(ROOT / it for it in TYPES)]


def digest() -> str:
    """The hash of all that is compiled: a kernel holds it (`source_digest`)."""
    hashed = hashlib.blake2b(digest_size=16)
    for path in (Path(__file__), *headers(), *(ROOT / it for it in SOURCES)):
        hashed.update(path.read_bytes())
    return hashed.hexdigest()


def declarations() -> str:
    """The types and functions that Python uses, as C declares them."""
    return types() + functions()


def types() -> str:
    """The types that Python reads, and the numbers in them."""
    found = []
    for name in TYPES:
        text = (ROOT / name).read_text()
        found += [f"#define {it} {number}" for it, number in _NUMBER.findall(text)]
        found += _TYPE.findall(text)
    return "".join(f"{it}\n" for it in found)


def functions() -> str:
    """The functions that Python calls."""
    found = ["const char *source_digest(void)"]
    for name in SOURCES:
        found += _DECLARED.findall((ROOT / name).read_text())
    return "".join(f"{it};\n" for it in found)


def build(to: Path, flags: Sequence[str] = ()) -> None:
    """Compiles the kernel into the file `to`, with these flags beside `FLAGS`; a process that has the old
    one loaded keeps it. Errors: `NotBuilt`."""
    try:
        from cffi import FFI
    except ImportError as error:
        raise NotBuilt(str(error)) from None
    ffi = FFI()
    ffi.cdef(declarations())
    includes = "".join(f'#include "{ROOT / it}"\n' for it in ("models/kernels/kernel.h", *TYPES))
    preamble = f'{includes}const char *source_digest(void) {{ return "{digest()}"; }}\n'
    ffi.set_source("models.kernels._kernel", preamble + functions())
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".build") as folder:
        glue, made = Path(folder, "_kernel.c"), Path(folder, "made")
        with contextlib.redirect_stdout(None):  # it says where it writes
            ffi.emit_c_code(str(glue))
        command = [*compiler(), *FLAGS, *flags, f"-I{HERE}", f"-I{sysconfig.get_path('include')}"]
        _run([*command, "-o", str(made), str(glue), *(str(ROOT / it) for it in SOURCES), "-lm"])
        made.replace(to)


def compiler() -> list[str]:
    """The command that compiles."""
    named = os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "cc").split()[0]
    mac = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    return [*shlex.split(named), *mac]


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NotBuilt(f"{command[0]} does not run: {error}") from None
    if done.returncode:
        raise NotBuilt("\n".join(done.stderr.splitlines()[-_MAX_LINES:]) or f"{command[0]} failed")


if __name__ == "__main__":
    try:
        build(place())
    except NotBuilt as error:
        sys.exit(f"no kernel was built, numpy will run: {error}")
