"""The locked packages, as the files in infra/lock have them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
SHIPPED: Final = ("serve", "run", "train")
"""The locks of what runs; each has all packages of the one before it."""
EVERY: Final = (*SHIPPED, "dev")
_ENTRY: Final = re.compile(
    r"^([\w.-]+)==([^\s;\\]+)(?: ; ([^\\]*\S))? \\\n((?:    --hash=\S+(?: \\)?\n)+)", re.MULTILINE
)
_SHA256: Final = re.compile(r"sha256:([0-9a-f]{64})")


class Package(NamedTuple):
    """`lock`: the first lock that has it. `marker`: where it is installed (PEP 508), "" for everywhere.
    `sha256`: of each of its files, hexadecimal."""

    name: str
    version: str
    marker: str
    sha256: tuple[str, ...]
    lock: str

    @property
    def purl(self) -> str:
        """Its package URL (https://github.com/package-url/purl-spec)."""
        return f"pkg:pypi/{self.name}@{self.version}"


def packages(*locks: str, root: Path = ROOT) -> list[Package]:
    """The packages of `locks`, by name and version, each once.

    >>> [it.marker for it in packages("run") if it.name == "colorama"]
    ["sys_platform == 'win32'"]
    """
    found: dict[tuple[str, str], Package] = {}
    for lock in locks:
        text = (root / "infra" / "lock" / f"{lock}.txt").read_text()
        for name, version, marker, hashes in _ENTRY.findall(text):
            package = Package(name, version, marker, tuple(_SHA256.findall(hashes)), lock)
            found.setdefault((name, version), package)
    return [found[key] for key in sorted(found)]


def stated() -> Mapping[str, Mapping[str, str]]:
    """The tables of packages.toml: `licences`, `duties`, `accepted_advisories`."""
    return tomllib.loads(Path(__file__).with_name("packages.toml").read_text())
