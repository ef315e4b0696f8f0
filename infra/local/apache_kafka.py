"""Apache Kafka nodes (KRaft, this machine only) without containers: one, plaintext or SASL over TLS.

Needs Java 17 or newer and Maven (`infra.local.kafka_jars`); `infra.local.kafka_cluster` runs three.
`make kafka`, which is `python -m infra.local.apache_kafka --data DIR`, runs one in the foreground.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from infra.local import kafka_jars
from infra.local.find import DEFAULT_DIR
from infra.local.home import prepare_folder
from infra.local.kafka_jars import MIN_JAVA, VERSION, KafkaFailed
from infra.local.kafka_properties import (
    LOGGING_PROPERTIES,
    NodeIdentity,
    SaslTls,
    server_properties,
)
from infra.terminal.errors import in_one_line

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
JVM_OPTIONS: Final = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
)
# an ApiVersions v0 request: correlation id 1, client id "up"
API_VERSIONS_REQUEST: Final = struct.pack(">ihhih2s", 12, 18, 0, 1, 2, b"up")


class ApacheKafka:
    """A node on 127.0.0.1:`port` (its controller takes `port` + 1, and with `security` its plain listener
    `port` + 2) that keeps all in `data`.

    `properties` are added to its own, as in `{"log.retention.check.interval.ms": "100"}`; `member`: its place
    in a cluster, alone where there is none.
    """

    def __init__(
        self,
        data: Path,
        port: int,
        properties: Mapping[str, str] | None = None,
        security: SaslTls | None = None,
        member: NodeIdentity | None = None,
    ) -> None:
        self.data, self.port = data.resolve(), port
        self.plain_port = port if security is None else port + 2
        """Answers without TLS and a password."""
        self._extra_properties = dict(properties or {})
        self._security = security
        self._member = member or NodeIdentity(1, (port + 1,), cluster_id())
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def available() -> str | None:
        """Why it cannot run on this machine, or None if it can."""
        return kafka_jars.missing_tool()

    @property
    def pid(self) -> int | None:
        """Of the running node."""
        return None if self._process is None else self._process.pid

    def start(self) -> str:
        """Fetches the jars if need be, starts the node, and gives `host:port` once it serves.

        Errors: `KafkaFailed`, `Unusable`, `Incomplete`.
        """
        self.launch()
        return self.await_answer()

    def launch(self) -> None:
        """Does not wait until it serves. Errors: `KafkaFailed`, `Unusable`, `Incomplete`."""
        jars = kafka_jars.fetch_jars()
        for port in {self.port, self.port + 1, self.plain_port}:
            _check_free(port)
        self.data.mkdir(parents=True, exist_ok=True)
        properties = server_properties(
            self.data, self.port, self._member, self._security, self._extra_properties
        )
        (self.data / "server.properties").write_text(properties)
        (self.data / "log4j2.properties").write_text(LOGGING_PROPERTIES.format(data=self.data))
        if not (self.data / "logs" / "meta.properties").exists():
            self._format(jars)
        with (self.data / "stdout.log").open("ab") as output:
            self._process = subprocess.Popen(
                [*self._java(jars), "kafka.Kafka", str(self.data / "server.properties")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def await_answer(self) -> str:
        """`host:port` once the launched node serves. Errors: `KafkaFailed`."""
        until = time.monotonic() + START_SECONDS
        while not _answers(self.plain_port):
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > until:
                self.kill()
                raise KafkaFailed(f"Apache Kafka did not come up: {self._last_words()}")
            time.sleep(0.1)
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Stops the node by SIGTERM, and by SIGKILL after `STOP_SECONDS`."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.wait()
        self._process = None

    def kill(self) -> None:
        """Ends the node by SIGKILL, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wait(self) -> int:
        """The exit code of the node; blocks until the node ends."""
        return 0 if self._process is None else self._process.wait()

    def _java(self, jars: Path) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self.data / 'log4j2.properties'}"
        return ["java", *JVM_OPTIONS, logging, "-cp", f"{jars}/*"]

    def _format(self, jars: Path) -> None:
        command = [
            *self._java(jars),
            "kafka.tools.StorageTool",
            "format",
            "-t",
            self._member.cluster,
            "-c",
            str(self.data / "server.properties"),
            *(self._security.scram_users if self._security else ()),
        ]
        tool = subprocess.run(command, capture_output=True, text=True, check=False)
        if tool.returncode != 0:
            raise KafkaFailed(f"cannot format {self.data}: {(tool.stdout + tool.stderr)[-2000:]}")

    def _last_words(self) -> str:
        return "".join(
            path.read_text(errors="replace")[-2000:]
            for name in ("stdout.log", "server.log")
            if (path := self.data / name).exists()
        )


def cluster_id() -> str:
    """A new one."""
    # an id that begins with "-" would be read as an option
    return base64.b64encode(os.urandom(16), b"kf").decode().rstrip("=")


def _check_free(port: int) -> None:
    """Errors: `KafkaFailed` where another server listens on `port`: it would pass for this one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise KafkaFailed(f"port {port}, which Apache Kafka needs, cannot be used") from error


def _answers(port: int) -> bool:
    """Whether a broker on `port` answers ApiVersions."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as peer:
        peer.sendall(API_VERSIONS_REQUEST)
        return len(peer.recv(4)) == 4
    return False


def main() -> int:
    """Runs a node in the foreground until SIGTERM or SIGINT. Errors: `KafkaFailed`, `Unusable`,
    `Incomplete`."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.apache_kafka", description="One Apache Kafka node."
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--port", type=int, default=9092, help="and the one above it")
    parser.add_argument(
        "--advertised",
        metavar="HOST:PORT",
        help="the address for clients, where it is not the listening one: behind a proxy, say",
    )
    parser.add_argument(
        "--member",
        type=NodeIdentity.parse,
        metavar="ID/PORT,PORT,.../CLUSTER",
        help="its place in a cluster: its id from 1, the ports of all controllers, the cluster's id",
    )
    arguments = parser.parse_args()
    if arguments.data.parent == DEFAULT_DIR:
        prepare_folder(DEFAULT_DIR)
    reason = ApacheKafka.available()
    if reason is not None:
        raise KafkaFailed(
            f"Apache Kafka needs Java {MIN_JAVA} or newer and Maven, and {reason}",
            remedy="install both, or use the embedded broker (make up)",
        )
    if not kafka_jars.are_fetched():
        print(f"fetching Apache Kafka {VERSION} with Maven, once (43 MB)", file=sys.stderr)
    address = arguments.advertised
    extra = {"advertised.listeners": f"PLAINTEXT://{address}"} if address else {}
    node = ApacheKafka(arguments.data, arguments.port, extra, member=arguments.member)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        print(f"KAFKA_BOOTSTRAP={node.start()}", flush=True)
        return node.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave it behind
        node.stop()


if __name__ == "__main__":
    with in_one_line():
        sys.exit(main())
