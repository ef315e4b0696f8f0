"""A Redis Cluster of three nodes, made by the tests."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from infra.local import services
from infra.signals import die_with_parent
from infra.store.redis_client import Client, open_url

SLOTS = 16_384
NODES = 3
BUS = 10_000
SECONDS = 30.0


class Cluster:
    """`nodes`: a client of each, in the order of their slots."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.nodes = [open_url(f"redis://{services.HOST}:{port}") for port in ports]
        self._moved: dict[int, int] = {}

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{services.HOST}:{port}" for port in self.ports)

    def form(self) -> None:
        """Gives each node its share of the slots, and waits until all nodes know each other."""
        for n, node in enumerate(self.nodes):
            mine = range(n * SLOTS // NODES, (n + 1) * SLOTS // NODES)
            node.execute_command("CLUSTER", "ADDSLOTS", *mine)
            node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for port in self.ports[1:]:
            self.nodes[0].execute_command("CLUSTER", "MEET", services.HOST, port)
        wait(lambda: all(map(self._whole, self.nodes)), "the cluster does not form")

    def _whole(self, node: Client) -> bool:
        info = node.execute_command("CLUSTER", "INFO").decode().split()
        return "cluster_state:ok" in info and f"cluster_known_nodes:{NODES}" in info

    def owner(self, slot: int) -> int:
        """The node that has the slot now: an earlier test may have moved it."""
        first = next(n for n in range(NODES) if slot < (n + 1) * SLOTS // NODES)
        return self._moved.get(slot, first)

    def move(self, slot: int, source: int, target: int) -> None:
        """Migrates a slot from one node to another, as `redis-cli --cluster reshard` does."""
        ids = [node.execute_command("CLUSTER", "MYID").decode() for node in self.nodes]
        there, here = self.nodes[target], self.nodes[source]
        there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        while names := here.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            here.execute_command(
                "MIGRATE", services.HOST, self.ports[target], "", 0, 5000, "KEYS", *names
            )
        for node in (there, here, *self.nodes):
            node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
        self._moved[slot] = target


def _free_port() -> int:
    """A port whose bus port, `BUS` above, is free too: a node exits where that is taken. Not one that
    Linux gives connections, which begin at 32768."""
    while True:
        port = services.free_port()
        if port + BUS < 32_768 and not services.in_use(port + BUS):
            return port


def wait(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


@contextmanager
def running(directory: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        ports = []
        for n in range(NODES):
            port, home = _free_port(), directory / str(n)
            home.mkdir()
            command = [*services.redis_command(port, home), "--cluster-enabled", "yes"]
            log = stack.enter_context((home / "log").open("wb"))
            process = subprocess.Popen(
                command, stdout=log, stderr=log, preexec_fn=die_with_parent()
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            ports.append(port)
        for port in ports:
            url = f"redis://{services.HOST}:{port}/0"
            wait(lambda url=url: services.redis_answers(url), "a node does not answer")  # type: ignore[misc]
        cluster = Cluster(ports)
        cluster.form()
        yield cluster
