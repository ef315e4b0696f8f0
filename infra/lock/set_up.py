"""Sets .venv up, in the folder above `infra`, with what infra/lock/dev.txt locks; `make` calls it.

uv installs: it takes a tenth of what pip takes. pip installs uv, and all the rest where uv cannot.
Every file is checked against its hash by either. `.venv/.ready` is written last: without it .venv is
half made, nobody knows which half, and it is made anew. Standard library only.
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
    """Errors: subprocess.CalledProcessError where pip cannot do it either; what it said is on stderr."""
    with Path(__file__).open("r+") as ours:
        fcntl.flock(ours, fcntl.LOCK_EX)  # two at once (`make test`, `make up`): the second waits
        if done():
            return
        if not (READY.exists() and PYTHON.exists()):
            print(f"setting up .venv with {Path(sys.executable).name}", flush=True)
            run(sys.executable, "-m", "venv", "--clear", str(VENV))
        READY.unlink(missing_ok=True)
        fast = has_uv()
        locked, ours_ = ["--require-hashes"], ["--no-deps", "--no-build-isolation", "-e", str(ROOT)]
        install(
            ["sync", "--compile-bytecode", *locked, str(LOCK)], [*locked, "-r", str(LOCK)], fast
        )
        install(["install", *ours_], ours_, fast)
        READY.touch()


def done() -> bool:
    """Is .venv newer than what it is made of?"""
    inputs = (LOCK, ROOT / "pyproject.toml")
    if not (READY.exists() and PYTHON.exists()):
        return False
    return READY.stat().st_mtime_ns >= max(it.stat().st_mtime_ns for it in inputs)


def has_uv() -> bool:
    """Is the uv of the lock in .venv, now?"""
    pinned = re.search(r"^uv==(?:.*\\\n)*.*\n", LOCK.read_text(), re.MULTILINE)
    if not pinned:
        return False
    words = ["install", "--quiet", "--no-deps", "--require-hashes", "-r", "/dev/stdin"]
    done = subprocess.run(pip(*words), input=pinned[0], text=True, check=False)
    return done.returncode == 0


def install(uv: list[str], by_pip: list[str], fast: bool) -> None:
    """By uv, with words of `uv pip`; by pip, with words of `pip install`, where uv is not there or fails."""
    if fast:
        words = ["pip", *uv, "--quiet", "--python", str(PYTHON)]
        like_pip = [str(PYTHON), str(HERE / "uv_like_pip.py"), *words]
        if subprocess.run(like_pip, check=False).returncode == 0:
            return
        print("uv cannot: pip does it, in a minute or two", file=sys.stderr, flush=True)
    run(*pip("install", "--quiet", *by_pip))


def pip(*words: str) -> list[str]:
    return [str(PYTHON), "-m", "pip", "--disable-pip-version-check", *words]


def run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except KeyboardInterrupt:
        sys.exit(130)
