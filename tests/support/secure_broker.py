"""An embedded broker that tells clients the address of a listener with TLS and SASL before it."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local import services
from tests.support.certificates import Authority
from tests.support.secure_listener import HOST


@contextmanager
def broker_behind(folder: Path) -> Iterator[tuple[int, int]]:
    """The broker's own port, and the port that it tells clients, where a `SecureListener` may listen."""
    target, advertised = services.free_port(), services.free_port()
    command = [*services.broker_command(target, folder), "--advertised", f"{HOST}:{advertised}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        services.wait_until(lambda: services.port_answers(target), 20, "no broker answers")
        yield target, advertised
    finally:
        process.kill()
        process.wait()


def context_of(pair: Path, clients: Authority | None = None) -> ssl.SSLContext:
    """What a listener uses. `clients`: who signs the certificates of those it takes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    if clients is not None:
        context.load_verify_locations(clients.path)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
