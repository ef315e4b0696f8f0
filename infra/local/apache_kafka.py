"""One Apache Kafka node (KRaft, plaintext, this machine only) without containers.

Needs Java 17 or newer and Maven; the jars (some 45 files, 43 MB) are fetched once and kept under
`${XDG_CACHE_HOME:-~/.cache}/freshet/kafka-VERSION`.  `make kafka`, which is
`python -m infra.local.apache_kafka --data DIR`, runs one in the foreground.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from infra.local.find import DEFAULT_DIR
from infra.local.home import prepare_folder
from infra.shipped import shipped
from infra.terminal.errors import in_one_line
from schemas.errors import ConfigurationError

VERSION: Final = "4.4.0"
MIN_JAVA: Final = 17
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
FETCH_SECONDS: Final = 600.0
POM: Final = Path(__file__).parents[1] / "deploy" / "kafka" / "pom.xml"
JVM_OPTIONS: Final = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
)
# an ApiVersions v0 request: correlation id 1, client id "up"
API_VERSIONS_REQUEST: Final = struct.pack(">ihhih2s", 12, 18, 0, 1, 2, b"up")

SERVER_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={data}/logs
num.partitions=4
# kafka-python asks for every topic to be made, whatever its settings, also for one just deleted
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# after a kill a restart waits for the dead incarnation's session; the default is 9 s
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=2
log.cleaner.dedupe.buffer.size=4194304
"""
LOGGING_PROPERTIES: Final = """\
rootLogger.level=warn
rootLogger.appenderRefs=f
rootLogger.appenderRef.f.ref=F
appender.f.type=File
appender.f.name=F
appender.f.fileName={data}/server.log
appender.f.layout.type=PatternLayout
appender.f.layout.pattern=%d %p %m (%c{{1}})%n
"""


class KafkaFailed(ConfigurationError):
    """Apache Kafka, or the fetching of its jars, failed; the text is the reason or the end of the output."""


class ApacheKafka:
    """A node on 127.0.0.1:`port` (its controller takes `port` + 1) that keeps all in `data`.

    `properties` are added to its own, as in `{"log.retention.check.interval.ms": "100"}`.
    """

    def __init__(self, data: Path, port: int, properties: Mapping[str, str] | None = None) -> None:
        self.data, self.port = data.resolve(), port
        self._extra_properties = dict(properties or {})
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def available() -> str | None:
        """Why it cannot run on this machine, or None if it can."""
        if shutil.which("java") is None:
            return "there is no java"
        java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
        version = re.search(r'version "(\d+)', java.stderr)
        if version is None or int(version[1]) < MIN_JAVA:
            return f"java is older than {MIN_JAVA}"
        if shutil.which("mvn") is None and not (_jars() / ".complete").exists():
            return "there is no mvn to fetch Apache Kafka with"
        return None

    def start(self) -> str:
        """Fetches the jars if need be, starts the node, and gives `host:port` once it serves.

        Errors: `KafkaFailed`, `Unusable`, `Incomplete`.
        """
        jars = fetch_jars()
        for port in (self.port, self.port + 1):
            _check_free(port)
        self.data.mkdir(parents=True, exist_ok=True)
        values = {"port": self.port, "controller": self.port + 1, "data": self.data}
        extra = "".join(f"{name}={value}\n" for name, value in self._extra_properties.items())
        (self.data / "server.properties").write_text(SERVER_PROPERTIES.format(**values) + extra)
        (self.data / "log4j2.properties").write_text(LOGGING_PROPERTIES.format(**values))
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
        self._wait_until_it_answers(self._process)
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
        # an id that begins with "-" would be read as an option
        cluster = base64.b64encode(os.urandom(16), b"kf").decode().rstrip("=")
        command = [
            *self._java(jars),
            "kafka.tools.StorageTool",
            "format",
            "-t",
            cluster,
            "-c",
            str(self.data / "server.properties"),
        ]
        tool = subprocess.run(command, capture_output=True, text=True, check=False)
        if tool.returncode != 0:
            raise KafkaFailed(f"cannot format {self.data}: {(tool.stdout + tool.stderr)[-2000:]}")

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + START_SECONDS
        while not _answers(self.port):
            if process.poll() is not None or time.monotonic() > until:
                self.kill()
                logs = "".join(
                    path.read_text(errors="replace")[-2000:]
                    for name in ("stdout.log", "server.log")
                    if (path := self.data / name).exists()
                )
                raise KafkaFailed(f"Apache Kafka did not come up: {logs}")
            time.sleep(0.1)


def fetch_jars() -> Path:
    """The folder of Apache Kafka's jars, fetched with Maven the first time.

    Errors: `KafkaFailed`, `Unusable`, `Incomplete`.
    """
    jars = _jars()
    if (jars / ".complete").exists():
        return jars
    jars.mkdir(parents=True, exist_ok=True)
    command = [
        "mvn",
        "-B",
        "-q",
        "-f",
        str(shipped(POM)),
        f"-Dkafka.version={VERSION}",
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
        f"-DoutputDirectory={jars}",
    ]
    try:
        maven = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=FETCH_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KafkaFailed(f"cannot fetch Apache Kafka: {type(error).__name__}") from error
    if maven.returncode != 0:
        raise KafkaFailed(f"cannot fetch Apache Kafka: {(maven.stdout + maven.stderr)[-2000:]}")
    (jars / ".complete").touch()
    return jars


def _jars() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "freshet" / f"kafka-{VERSION}"


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
    arguments = parser.parse_args()
    if arguments.data.parent == DEFAULT_DIR:
        prepare_folder(DEFAULT_DIR)
    reason = ApacheKafka.available()
    if reason is not None:
        raise KafkaFailed(
            f"Apache Kafka needs Java {MIN_JAVA} or newer and Maven, and {reason}",
            remedy="install both, or use the embedded broker (make up)",
        )
    if not (_jars() / ".complete").exists():
        print(f"fetching Apache Kafka {VERSION} with Maven, once (43 MB)", file=sys.stderr)
    address = arguments.advertised
    extra = {"advertised.listeners": f"PLAINTEXT://{address}"} if address else {}
    node = ApacheKafka(arguments.data, arguments.port, extra)
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
