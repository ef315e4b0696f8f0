"""Three Apache Kafka nodes on this machine, each a broker and a controller: a topic outlives one of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from infra.local.apache_kafka import ApacheKafka, cluster_id
from infra.local.kafka_properties import NodeIdentity

NODES: Final = 3
PORTS: Final = 2 * NODES


class KafkaCluster:
    """Topics have three replicas, of which two acknowledge (`min.insync.replicas`), unless their maker says
    another.

    It takes `port` and the `PORTS` - 1 above it; `properties` are added to those of every node.
    """

    def __init__(self, data: Path, port: int, properties: Mapping[str, str] | None = None) -> None:
        ports = range(port, port + PORTS, 2)
        name, controllers = cluster_id(), tuple(at + 1 for at in ports)
        self.nodes = [
            ApacheKafka(data / str(n), at, properties, member=NodeIdentity(n, controllers, name))
            for n, at in enumerate(ports, 1)
        ]

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> str:
        """The addresses once all nodes serve; no node does before two run. Errors: `KafkaFailed`."""
        try:
            for node in self.nodes:
                node.launch()
            for node in self.nodes:
                node.await_answer()
        except BaseException:
            self.kill()
            raise
        return self.bootstrap

    def stop(self) -> None:
        """Stops the nodes that run. The last ones find no quorum to leave: they are killed."""
        if self.nodes:
            self.nodes[0].stop()
        self.kill()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()
