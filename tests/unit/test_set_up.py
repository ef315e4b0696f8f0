"""Setting .venv up, offline: `make` in a tree whose lock names a package that is made here."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution, version
from pathlib import Path

import pytest

from tests.unit.test_house import ROOT

LOCKS = ROOT / "infra" / "lock"
# a backend of its own, so that nothing has to be installed to build the tree
BACKEND = """
import shutil

def build_editable(folder, config_settings=None, metadata_directory=None):
    return shutil.copy("tree-1-py3-none-any.whl", folder).rpartition("/")[2]
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "tree"
version = "1"
"""


def wheel(folder: Path, name: str, version: str, files: Mapping[str, bytes]) -> Path:
    """A wheel of these files, as PEP 427 has it."""
    info = f"{name}-{version}.dist-info"
    kept = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{info}/RECORD,,"]
    for path, data in kept.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(data)}")
    made = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, data in {**kept, f"{info}/RECORD": "\n".join(record).encode()}.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (0o100755 if "/scripts/" in path else 0o100644) << 16
            archive.writestr(entry, data)
    return made


def uv_wheel(folder: Path) -> Path:
    """The installed uv, a wheel again."""
    at = f"uv-{version('uv')}.data/scripts"
    files = {}
    for it in distribution("uv").files or ():
        if it.parts[0] == "uv" and it.suffix == ".py":
            files[str(it)] = it.locate().read_bytes()  # type: ignore[attr-defined]
        elif it.name == "uv":
            files[f"{at}/uv"] = it.locate().read_bytes()  # type: ignore[attr-defined]
    return wheel(folder, "uv", version("uv"), files)


def pinned(path: Path, hashed: bytes | None = None) -> str:
    name, number, *_ = path.name.split("-")
    digest = hashlib.sha256(path.read_bytes() if hashed is None else hashed).hexdigest()
    return f"{name}=={number} \\\n    --hash=sha256:{digest}\n"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables without any configuration of pip or uv but the test's own."""
    kept = {key: it for key, it in os.environ.items() if not key.startswith(("PIP_", "UV_"))}
    (tmp_path / "home").mkdir()
    return {**kept, "HOME": str(tmp_path / "home"), "UV_CACHE_DIR": str(tmp_path / "uv")}


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "simple" / "tiny"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def tree(tmp_path: Path, wheels: Path) -> Path:
    """A tree with our Makefile and scripts, whose .venv was left half made: tiny counts as installed."""
    root = tmp_path / "tree"
    shutil.copytree(LOCKS, root / "infra" / "lock", ignore=shutil.ignore_patterns("*.txt"))
    shutil.copy(ROOT / "Makefile", root)
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "backend.py").write_text(BACKEND)
    wheel(root, "tree", "1", {"tree.pth": b"."})
    made = wheel(wheels, "tiny", "1.0", {"tiny.py": b"here = True\n"})
    (root / "infra" / "lock" / "dev.txt").write_text(pinned(made))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / ".venv"], check=True)
    (site,) = (root / ".venv" / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(made) as archive:
        archive.extractall(site, [it for it in archive.namelist() if it != "tiny.py"])
    return root


def make(root: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["make", "-C", str(root), f"PYTHON={sys.executable}", ".venv/.ready"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.check
@pytest.mark.parametrize("by", ["uv", "pip"])
def test_a_half_made_environment_is_completed(
    by: str, tree: Path, wheels: Path, environment: dict[str, str]
) -> None:
    if by == "uv":
        with (tree / "infra" / "lock" / "dev.txt").open("a") as lock:
            lock.write(pinned(uv_wheel(wheels)))
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"{wheels} {wheels / 'not-there'}"}
    done = make(tree, environment)
    assert done.returncode == 0, done.stderr
    assert "uv cannot" not in done.stderr
    assert (tree / ".venv" / "bin" / "uv").exists() == (by == "uv")
    python = tree / ".venv" / "bin" / "python"
    assert (
        subprocess.run([python, "-c", "import tiny; assert tiny.here"], check=False).returncode == 0
    )
    assert "up to date" in make(tree, environment).stdout
    (tree / "models" / "room").mkdir(parents=True)
    (tree / "models" / "room" / "loop.c").touch()  # a kernel of before is not of these sources
    done = make(tree, environment)
    assert (done.returncode, "up to date" in done.stdout) == (0, False), done.stderr
    assert "up to date" in make(tree, environment).stdout


@pytest.mark.check
def test_a_package_outside_the_lock_is_not_installed(
    tree: Path, wheels: Path, environment: dict[str, str]
) -> None:
    lock = pinned(wheels / "tiny-1.0-py3-none-any.whl", b"another one")
    (tree / "infra" / "lock" / "dev.txt").write_text(lock)
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    done = make(tree, environment)
    assert done.returncode
    assert "do not match the hashes" in done.stderr.lower().replace("\n", " ")
    assert not (tree / ".venv" / ".ready").exists()


@pytest.fixture
def index(tmp_path: Path, wheels: Path) -> Iterator[str]:
    """An index of packages on this machine: the folder of wheels, listed over HTTP."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("option", ["index-url", "extra-index-url"])
def test_uv_looks_where_pip_is_configured_to(
    option: str, tmp_path: Path, wheels: Path, index: str, environment: dict[str, str]
) -> None:
    made = wheel(wheels, "tiny", "1.0", {"tiny.py": b"here = True\n"})
    (tmp_path / "lock.txt").write_text(pinned(made))
    urls = {"index-url": f"{index}/empty", option: index}
    (tmp_path / "pip.conf").write_text(
        "[global]\n" + "".join(f"{name} = {it}\n" for name, it in urls.items())
    )
    command = [sys.executable, str(LOCKS / "uv_like_pip.py"), "pip", "install", "--quiet"]
    command += ["--target", str(tmp_path / "there"), "--require-hashes", "-r", "lock.txt"]
    environment |= {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "UV_NO_CONFIG": "1"}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "there" / "tiny.py").exists()
