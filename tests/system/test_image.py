"""What the wheels link to against what the image has, read from the files: no Docker is needed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "infra" / "deploy"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="wheels of Linux are ELF files")


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock: str) -> list[Distribution]:
    """The distributions of a lock that are installed here."""
    text = (ROOT / "infra" / "lock" / lock).read_text()
    names = {plain(name) for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}
    return [it for it in distributions() if plain(it.metadata["Name"]) in names]


def binaries(of: Distribution) -> Iterator[Path]:
    """The ELF files of a distribution: extension modules, libraries, programs."""
    for it in of.files or ():
        path = Path(str(it.locate())).resolve()
        if path.suffix not in {".py", ".pyc", ".pyi"} and path.is_file():
            with path.open("rb") as stream:
                if stream.read(4) == b"\x7fELF":
                    yield path


def needed(path: Path) -> set[str]:
    """The libraries that an ELF file links to, by soname."""
    with path.open("rb") as stream:
        return {
            tag.needed  # type: ignore[attr-defined]
            for segment in ELFFile(stream).iter_segments()
            if isinstance(segment, DynamicSegment)
            for tag in segment.iter_tags("DT_NEEDED")
        }


def provided(lock: str) -> frozenset[str]:
    """Libraries of the base image, and of the packages that the Dockerfile installs with this LOCK."""
    held = tomllib.loads((DEPLOY / "libraries.toml").read_text())
    packages = re.findall(
        r'RUN if \[ "\$LOCK" = (\S+) \]; then [^;]* apt-get install --yes --no-install-recommends ([^\\\n]+)',
        (DEPLOY / "Dockerfile").read_text(),
    )
    names = " ".join(listed for of, listed in packages if of == lock).split()
    assert set(names) == (set(held["installed"]) if lock == "train.txt" else set())
    return frozenset(
        library
        for libraries in (*held["base"].values(), *map(held["installed"].get, names))
        for library in libraries
    )


@pytest.mark.parametrize("lock", ["run.txt", "serve.txt", "train.txt"])
def test_the_image_has_every_library_that_a_wheel_links_to(lock: str) -> None:
    given = provided(lock)
    lacking = defaultdict(set)
    read = 0
    for distribution in locked(lock):
        files = list(binaries(distribution))
        read += len(files)
        # auditwheel puts a copy of what no system is bound to have beside what links to it
        own = {path.name for path in files}
        for path in files:
            for library in needed(path) - given - own:
                lacking[f"{distribution.metadata['Name']} links to {library}"].add(path.name)
    assert read > 30
    assert dict(lacking) == {}


def test_what_the_image_is_said_to_have_is_said_of_its_base() -> None:
    (base,) = re.findall(
        r"^FROM (\S+) AS packages$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE
    )
    assert f"What {base} has by itself" in (DEPLOY / "libraries.toml").read_text()


def copied() -> list[str]:
    """What the Dockerfile copies into the image, from the repository's root."""
    return re.findall(r"^COPY (\S+) \1$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)


def test_the_context_holds_what_the_image_copies() -> None:
    kept = re.findall(r"^!(\S+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert {name.partition("/")[0] for name in copied()} == set(kept)


@pytest.mark.parametrize("name", ["freshet-recommender", "another"])
def test_the_image_names_its_version_though_nothing_is_installed_there(
    name: str, tmp_path: Path
) -> None:
    assert {"pyproject.toml", "infra"} <= set(copied())
    (tmp_path / "infra").mkdir()
    shutil.copy(ROOT / "infra" / "version.py", tmp_path / "infra")
    project = (ROOT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(project.replace('"freshet-recommender"', f'"{name}"'))
    # -S: without the packages that are installed here, ours among them
    answer = subprocess.run(
        [sys.executable, "-S", "-c", "from infra.version import RELEASE; print(RELEASE)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    version = tomllib.loads(project)["project"]["version"]
    assert answer.stdout.strip() == (version if name == "freshet-recommender" else "source")
