"""What a node of Apache Kafka is told: its place among the nodes, and how clients reach it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

MAX_IN_SYNC: Final = 2
"""`min.insync.replicas` where there are enough nodes: one of three may be away."""

# {replicas}: a topic's, unless its maker says another; {in_sync}: those that acknowledge
NODE_PROPERTIES: Final = """\
process.roles=broker,controller
node.id={id}
controller.listener.names=CONTROLLER
controller.quorum.voters={voters}
log.dirs={data}/logs
num.partitions=4
default.replication.factor={replicas}
min.insync.replicas={in_sync}
# kafka-python asks for every topic to be made, whatever its settings, also for one just deleted
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor={replicas}
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
# after a kill a restart waits for the dead incarnation's session; the default is 9 s
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=2
log.cleaner.dedupe.buffer.size=4194304
"""
PLAIN_LISTENERS: Final = """\
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
"""
# nodes, and tests that read what is in the log, use INTERNAL
SECURE_LISTENERS: Final = """\
listeners=SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},INTERNAL://127.0.0.1:{internal}
advertised.listeners=SASL_SSL://127.0.0.1:{port},INTERNAL://127.0.0.1:{internal}
listener.security.protocol.map=SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT
inter.broker.listener.name=INTERNAL
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required {users};
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={certificate}
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


class NodeIdentity(NamedTuple):
    """A node's place among the nodes of a cluster: its id, from 1, and the ports of all their controllers."""

    id: int
    controllers: tuple[int, ...]
    cluster: str

    @classmethod
    def parse(cls, text: str) -> NodeIdentity:
        """Of what `str` gives. Errors: ValueError."""
        number, ports, cluster = text.split("/")
        return cls(int(number), tuple(map(int, ports.split(","))), cluster)

    def __str__(self) -> str:
        return f"{self.id}/{','.join(map(str, self.controllers))}/{self.cluster}"


class SaslTls(NamedTuple):
    """Clients come by SASL (PLAIN or SCRAM-SHA-512) over TLS. `certificate`: a PEM file with a private key
    (PKCS 8) and behind it the certificate; `users`: name -> password."""

    certificate: Path
    users: Mapping[str, str]

    @property
    def scram_users(self) -> list[str]:
        """Options of Kafka's storage tool, which puts them among the metadata of a new cluster."""
        return [
            f"--add-scram=SCRAM-SHA-512=[name={name},password={password}]"
            for name, password in self.users.items()
        ]


def server_properties(
    data: Path, port: int, member: NodeIdentity, security: SaslTls | None, extra: Mapping[str, str]
) -> str:
    """A node's `server.properties`. Its controller has `port` + 1; with `security` its plain listener, for
    nodes alone, has `port` + 2."""
    nodes = len(member.controllers)
    voters = ",".join(f"{n}@127.0.0.1:{at}" for n, at in enumerate(member.controllers, 1))
    values = {"id": member.id, "voters": voters, "data": data, "replicas": nodes}
    node = NODE_PROPERTIES.format(**values, in_sync=min(nodes, MAX_IN_SYNC))
    ports = {"port": port, "controller": port + 1, "internal": port + 2}
    if security is None:
        listeners = PLAIN_LISTENERS.format(**ports)
    else:
        users = " ".join(f'user_{name}="{word}"' for name, word in security.users.items())
        listeners = SECURE_LISTENERS.format(
            **ports, users=users, certificate=security.certificate.resolve()
        )
    return node + listeners + "".join(f"{name}={value}\n" for name, value in extra.items())
