"""Sets .venv up, in the folder above `infra`, with the packages of infra/lock/dev.txt; `make` calls it.

uv installs the packages, in a tenth of pip's time. pip installs uv, and all packages where uv fails. Both
check every file against its hash. `.venv/.ready` is written last: a .venv without it is incomplete, and is
made anew. Standard library only.
"""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
LOCK: Final = HERE / "dev.txt"
VENV: Final = ROOT / ".venv"
PYTHON: Final = VENV / "bin" / "python"
READY: Final = VENV / ".ready"


def main() -> None:
    """Makes .venv unless it is up to date.

    Errors: subprocess.CalledProcessError where pip fails too; pip's own message is on stderr.
    """
    with Path(__file__).open("r+") as ours:
        fcntl.flock(
            ours, fcntl.LOCK_EX
        )  # of two that run together (`make test`, `make up`) the second waits
        if done():
            return
        if not (READY.exists() and PYTHON.exists()):
            print(f"setting up .venv with {Path(sys.executable).name}", flush=True)
            run(sys.executable, "-m", "venv", "--clear", str(VENV))
        READY.unlink(missing_ok=True)
        fast = has_uv()
        locked, ours_ = ["--require-hashes"], ["--no-deps", "--no-build-isolation", "-e", str(ROOT)]
        # the lock is complete, and pip knows no overrides ([tool.uv] in pyproject.toml)
        by_pip = [*locked, "--no-deps", "-r", str(LOCK)]
        install(["sync", "--compile-bytecode", *locked, str(LOCK)], by_pip, fast)
        install(["install", *ours_], ours_, fast)
        READY.touch()


def done() -> bool:
    """Whether .venv is complete and newer than what it is made of."""
    inputs = [LOCK, ROOT / "pyproject.toml", *ROOT.glob("setup.py")]
    # what the kernel is compiled of
    compiled = [it for folder in ("models", "serving") for it in ROOT.glob(f"{folder}/**/*.[ch]")]
    inputs += [*compiled, *ROOT.glob("models/kernels/build.py")]
    if not (READY.exists() and PYTHON.exists()):
        return False
    return READY.stat().st_mtime_ns >= max(it.stat().st_mtime_ns for it in inputs)


def has_uv() -> bool:
    """Installs the uv of the lock into .venv; answers whether that worked."""
    pinned = re.search(r"^uv==(?:.*\\\n)*.*\n", LOCK.read_text(), re.MULTILINE)
    if not pinned:
        return False
    arguments = ["install", "--quiet", "--no-deps", "--require-hashes", "-r", "/dev/stdin"]
    done = subprocess.run(pip(*arguments), input=pinned[0], text=True, check=False)
    return done.returncode == 0


def install(uv: list[str], by_pip: list[str], fast: bool) -> None:
    """Runs `uv pip` with the arguments `uv`; without uv, or where it fails, `pip install` with `by_pip`."""
    if fast:
        arguments = ["pip", *uv, "--quiet", "--python", str(PYTHON)]
        like_pip = [str(PYTHON), str(HERE / "uv_like_pip.py"), *arguments]
        if subprocess.run(like_pip, check=False).returncode == 0:
            return
        print("uv failed: pip installs instead, in a minute or two", file=sys.stderr, flush=True)
    run(*pip("install", "--quiet", *by_pip))


def pip(*arguments: str) -> list[str]:
    """The command that runs .venv's pip."""
    return [str(PYTHON), "-m", "pip", "--disable-pip-version-check", *arguments]


def run(*command: str) -> None:
    """Errors: subprocess.CalledProcessError."""
    subprocess.run(command, check=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except KeyboardInterrupt:
        sys.exit(130)
