"""The oldest Redis that Freshet runs on."""

from __future__ import annotations

import re
from typing import Final

from infra.store.redis_client import Client, StoreMisconfigured, servers

MIN_VERSION: Final = (6, 2)


def check_version(client: Client) -> None:
    """Errors: `StoreMisconfigured` where a server is older than `MIN_VERSION`."""
    versions = [server.info("server").get("redis_version", "") for server in servers(client)]
    version = min(parse(str(version)) for version in versions)
    if version < MIN_VERSION:
        raise StoreMisconfigured(
            f"Redis is {dotted(version)} and Freshet needs {dotted(MIN_VERSION)} or later:"
            " point REDIS_URL at a newer one"
        )


def parse(version: str) -> tuple[int, ...]:
    """The first three numbers in a version; () where it has none.

    >>> parse("7.2.4")
    (7, 2, 4)
    """
    return tuple(int(digits) for digits in re.findall(r"\d+", version)[:3])


def dotted(version: tuple[int, ...]) -> str:
    """A version as people write it."""
    return ".".join(map(str, version)) or "of an unknown version"
