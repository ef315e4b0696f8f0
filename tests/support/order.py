"""The groups of tests that one worker runs in a row, and the order of the groups."""

from __future__ import annotations

from typing import Final

from xdist.scheduler import LoadScopeScheduling

APACHE: Final = "the contract on Apache Kafka"
"""Group of the tests on Apache Kafka: a node starts in seconds, and a worker keeps it."""
LONGEST: Final = (
    "tests/chaos/test_chaos.py",
    "tests/contract/test_three_nodes.py",
    "tests/unit/models/kernels/test_sanitizers.py",
    "tests/unit/models/kernels/test_numpy.py",
    "tests/system/test_bench_read.py",
    "tests/system/test_train.py",
    "tests/system/test_items_after_events.py",
    "tests/unit/models/test_waiting_size.py",
    "tests/system/test_rebuild.py",
    "tests/integration/edge/test_edge_spool.py",
    "tests/system/test_demo.py",
    "tests/unit/test_recipes.py",
    "tests/flows/test_relay.py",
    "tests/unit/test_house.py",
    "tests/integration/operate/test_verify.py",
    "tests/integration/lake/test_lake_flow.py",
    "tests/flows/test_people_faults.py",
    APACHE,
    "tests/contract/test_writers.py",
    "tests/system/test_up.py",
    "tests/contract/test_disk.py",
    "tests/integration/lake/test_snapshots.py",
    "tests/integration/operate/test_verify_shortened.py",
    "tests/integration/lake/test_cold.py",
    "tests/unit/infra/test_train.py",
    "tests/system/test_cli.py",
)
"""Groups that begin first, so that the workers finish together."""


def group(nodeid: str) -> str:
    """A file, whose tests share what it starts.

    >>> group("tests/unit/models/test_ring.py::test_order[1]")
    'tests/unit/models/test_ring.py'
    >>> group("tests/contract/test_fetch.py::test_one_byte[apache]") == APACHE
    True
    """
    file, _, test = nodeid.partition("::")
    asks = file.startswith("tests/contract/") and "[apache" in test
    return APACHE if asks else file


def place(nodeid: str) -> int:
    """Sort key: the index of the test's group in `LONGEST`, or one behind all of them."""
    mine = group(nodeid)
    return LONGEST.index(mine) if mine in LONGEST else len(LONGEST)


class Groups(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """Gives each worker a group at a time, in their order."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
