"""Known vulnerabilities of the locked packages, as OSV has them: ``python -m infra.supply_chain.advisories``.

It asks https://osv.dev, in one request for all packages (https://google.github.io/osv.dev/post-v1-querybatch/).
Exit status 0: no advisory, or only those that packages.toml accepts; 1: some, named; 2: OSV did not answer,
so nothing is said either way.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, Final
from urllib.error import URLError
from urllib.request import Request, urlopen

from infra.supply_chain.locks import EVERY, Package, packages, stated

OSV: Final = "https://api.osv.dev/v1/querybatch"
TIMEOUT_SECONDS: Final = 20.0
MAX_PAGES: Final = 10


class NotChecked(Exception):
    """The database did not answer, or not as it is specified."""


def advisories(found: Sequence[Package], url: str = OSV) -> dict[str, list[str]]:
    """Advisory id -> package URLs that it concerns. Errors: `NotChecked`."""
    concerned: dict[str, list[str]] = {}
    asked = [(it, "") for it in found]
    for _ in range(MAX_PAGES):
        results = _ask(url, asked)
        following = []
        for (package, _), result in zip(asked, results, strict=True):
            for each in result.get("vulns", ()):
                concerned.setdefault(each["id"], []).append(package.purl)
            if token := result.get("next_page_token"):
                following.append((package, token))
        if not following:
            return concerned
        asked = following
    raise NotChecked(f"more than {MAX_PAGES} pages")


def _ask(url: str, asked: Sequence[tuple[Package, str]]) -> list[dict[str, Any]]:
    queries = [
        {"package": {"purl": it.purl}, **({"page_token": token} if token else {})}
        for it, token in asked
    ]
    body = json.dumps({"queries": queries}).encode()
    request = Request(url, body, {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            results: list[dict[str, Any]] = json.load(answer)["results"]
    except (URLError, OSError, ValueError, KeyError, TypeError) as error:
        raise NotChecked(type(getattr(error, "reason", None) or error).__name__) from None
    if len(results) != len(asked):
        raise NotChecked("an answer for another number of packages")
    return results


def report(found: Sequence[Package], url: str = OSV) -> tuple[int, list[str]]:
    """The exit status and the lines to print."""
    try:
        concerned = advisories(found, url)
    except NotChecked as error:
        return 2, [f"not checked: the advisory database does not answer ({error})"]
    accepted = stated()["accepted_advisories"]
    lines = [
        f"{name}: {', '.join(purls)}"
        + (f" (accepted: {accepted[name]})" if name in accepted else "")
        for name, purls in sorted(concerned.items())
    ]
    return int(not concerned.keys() <= accepted.keys()), lines or [
        f"no advisory concerns {len(found)} packages"
    ]


def main() -> None:
    """Prints what is known of every lock's packages."""
    status, lines = report(packages(*EVERY), *sys.argv[1:2])
    print("\n".join(lines))
    sys.exit(status)


if __name__ == "__main__":
    main()
