"""docs/licences.md: the licence of each package that Freshet runs with, by ``make licences``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from typing import Final

from infra.supply_chain.locks import ROOT, SHIPPED, packages, stated

DOCUMENT: Final = ROOT / "docs" / "licences.md"
COPYLEFT: Final = re.compile(r"\b(A?L?GPL|MPL|EPL|CDDL|EUPL)\b")
_OF: Final = {"serve": "serving", "run": "flows and commands", "train": "training"}
_HEAD: Final = """\
# Licences

Freshet is under the [Apache License 2.0](../LICENSE). Its wheel holds no code of others. It runs with these
packages, which are installed beside it at the versions and hashes of [infra/lock](../infra/lock).
`make licences` makes this file of the locks and [packages.toml](../infra/supply_chain/packages.toml), and
`make bom` a bill of materials (CycloneDX).

Who passes on an image passes on these packages: each one's folder `*.dist-info` in it has its licence text,
which the licences ask for.
"""


def said(name: str) -> str | None:
    """The SPDX expression that an installed package says of itself (PEP 639); None where it says none, or is
    not installed."""
    try:
        found = metadata(name).get_all("License-Expression")
    except PackageNotFoundError:
        return None
    return str(found[0]) if found else None


def document() -> str:
    """The text of docs/licences.md. Errors: KeyError for a package without a licence in packages.toml."""
    return "".join(f"{line}\n" for line in _lines())


def _lines() -> Iterator[str]:
    licences, duties = stated()["licences"], stated()["duties"]
    yield _HEAD
    yield "## What asks for more"
    yield "| package | licence | |"
    yield "|---|---|---|"
    for name, duty in sorted(duties.items()):
        yield f"| {name} | {licences[name]} | {duty} |"
    yield ""
    yield "## All"
    yield "| package | version | licence | needed for |"
    yield "|---|---|---|---|"
    for it in packages(*SHIPPED):
        where = f", where `{it.marker}`" if it.marker else ""
        yield f"| {it.name} | {it.version} | {licences[it.name]} | {_OF[it.lock]}{where} |"


def main() -> None:
    """Writes the file. Errors: exit 1 and the packages that packages.toml lacks."""
    licences = stated()["licences"]
    missing = {it.name for it in packages(*SHIPPED)} - licences.keys()
    for name in sorted(missing):
        print(
            f"{name}: read its licence and add it to infra/supply_chain/packages.toml; it says"
            f" {said(name) or 'none'}",
            file=sys.stderr,
        )
    if missing:
        sys.exit(1)
    DOCUMENT.write_text(document())


if __name__ == "__main__":
    main()
