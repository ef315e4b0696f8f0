"""`python -m infra.broker --data DIR`: prints `listening HOST:PORT` and serves until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
from pathlib import Path

from infra import heartbeat, logs
from infra.broker.codes import CannotStart
from infra.broker.folder import unusable_reason
from infra.broker.node import RETENTION_CHECK_SECONDS, Broker
from infra.broker.server import serve
from infra.terminal.errors import in_one_line


def main() -> None:
    """Serves until a signal. Errors: `CannotStart`."""
    arguments = _arguments()
    heartbeat.start()
    logs.set_up(arguments.log_level)
    _raise_file_limit()
    try:
        broker = Broker(
            arguments.data,
            arguments.partitions,
            arguments.fsync,
            arguments.retention_check_seconds,
            arguments.auto_create,
        )
        try:
            _run(broker, arguments.host, arguments.port, arguments.advertised)
        finally:
            broker.close()
    except OSError as error:
        raise CannotStart(unusable_reason(arguments.data, error)) from error


def _run(broker: Broker, host: str, port: int, advertised: tuple[str, int] | None) -> None:
    def ready(host: str, port: int) -> None:
        print(f"listening {host}:{port}", flush=True)

    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(broker, host, port, ready, advertised))
    else:
        uvloop.run(serve(broker, host, port, ready, advertised))


def _raise_file_limit() -> None:
    """Allows as many open files as the system lets this process have: each log is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 1 << 16:
        raise ValueError
    return port


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.01 <= seconds <= 86_400:
        raise ValueError
    return seconds


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host:
        raise ValueError
    return host.strip("[]"), _port(port)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m infra.broker", description="A single-node broker, kept on disk."
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=0, help="0 takes a free one")
    parser.add_argument(
        "--advertised",
        type=_address,
        metavar="HOST:PORT",
        help="the address for clients, where it is not the listening one: behind a proxy, say",
    )
    parser.add_argument("--partitions", type=int, default=4, help="of a topic without a count")
    parser.add_argument(
        "--auto-create",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="make a topic that a client asks about",
    )
    parser.add_argument(
        "--fsync", action="store_true", help="acknowledge a record once it is on the disk"
    )
    parser.add_argument(
        "--retention-check-seconds",
        type=_seconds,
        default=RETENTION_CHECK_SECONDS,
        metavar="S",
        help="between two checks for expired records",
    )
    parser.add_argument("--log-level", choices=logs.LEVELS, default="info")
    return parser.parse_args()


if __name__ == "__main__":
    with in_one_line():
        main()
