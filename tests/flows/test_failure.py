"""A flow that fails prints one sentence of ours, and nothing of the engine's."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bytewax.operators as op
import msgspec
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from flows.kit.run import run_flow
from flows.kit.sink import Committed
from infra.settings import Settings
from infra.store import redis_client
from schemas.keys import PLAIN
from schemas.state import fences
from tests.flows.faults import Flow, produce, traffic
from tests.support.waits import until


class Numbers(StatefulSourcePartition[int, None]):
    def __init__(self, bad: int) -> None:
        self._n, self._bad = 0, bad

    def next_batch(self) -> list[int]:
        self._n += 1
        if self._n == self._bad:
            raise Broken("source")
        return [self._n]

    def snapshot(self) -> None:
        return None


class Partitions(FixedPartitionedSource[int, None]):
    def __init__(self, bad: int) -> None:
        self._bad = bad

    def list_parts(self) -> list[str]:
        return ["0", "1"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> Numbers:
        return Numbers(self._bad)


class Broken(RuntimeError):
    pass


def numbers(where: str, committed: list[int]) -> Dataflow:
    """A dataflow over two endless partitions, whose third number breaks step `where`."""

    def breaks(step: str) -> Any:
        def checked(n: int) -> int:
            if step == where and n == 3:
                raise Broken(step)
            return n

        return checked

    def several(n: int) -> Iterable[int]:
        yield breaks("several")(n)

    def commit(numbers: list[int]) -> None:
        committed.extend(map(breaks("commit"), numbers))

    flow = Dataflow("numbers")
    stream = op.input("source", flow, Partitions(3 if where == "source" else 0))
    stream = op.map("step", stream, breaks("step"))
    stream = op.flat_map("several", stream, several)
    op.output("commit", stream, Committed(commit))
    return flow


@pytest.mark.parametrize("where", ["source", "step", "several", "commit"])
def test_an_error_is_raised_as_it_was_and_the_engine_prints_nothing(
    where: str, capfd: pytest.CaptureFixture[str]
) -> None:
    committed: list[int] = []
    with pytest.raises(Broken, match=where) as raised:
        run_flow(numbers(where, committed))
    assert raised.value.__cause__ is None
    assert set(committed) == {1, 2}, "nothing is committed after it"
    assert capfd.readouterr() == ("", "")


@pytest.mark.check
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("flow", "sentence"),
    [
        ("people", "people partition "),
        ("lake", "the lake takes nothing: data/events/"),
    ],
)
def test_a_flow_that_fails_prints_one_sentence(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flow: str,
    sentence: str,
) -> None:
    monkeypatch.setenv("RUST_BACKTRACE", "1")  # as a developer of Rust may have set it
    settings = msgspec.structs.replace(settings, lake_seconds=0.1)
    settings.data_dir.mkdir(parents=True)
    person, log = traffic(1, 1, random.Random(1)), tmp_path / "log"
    running = Flow(settings, flow, log)
    try:
        produce(settings, person, random.Random(1), lambda n: None)
        with redis_client.connect(settings) as client:
            p = committed_partition(client, settings, flow)
            if flow == "people":  # the state is another topic's, in all partitions
                held = fences.decode(client.get(PLAIN.fence(flow, p)))
                other = fences.encode(msgspec.structs.replace(held, topic_id="another"))
                for at in range(settings.partitions):
                    client.set(PLAIN.fence(flow, at), other)
            else:
                folder = settings.data_dir / "lake" / "data" / "events"
                folder.rename(tmp_path / "elsewhere")
                folder.write_text("no folder")
        produce(settings, traffic(80, 40, random.Random(2)), random.Random(1), lambda n: None)
        assert running.process.wait(60) == 1
    finally:
        running.kill()
    output = log.read_text()
    assert output.splitlines()[-1].startswith(f"freshet: {sentence}")
    assert not [
        word for word in ("panicked", "backtrace", "Traceback", "Box<dyn") if word in output
    ]


def committed_partition(client: Any, settings: Settings, flow: str) -> int:
    """The partition of the one event, once its flow has committed it."""
    name = "lake-events" if flow == "lake" else flow
    found: list[int] = []

    def committed() -> bool:
        for p in range(settings.partitions):
            held = client.get(PLAIN.fence(name, p))
            if held and msgspec.msgpack.decode(held)[2] == 1:
                found.append(p)
        return bool(found)

    until(committed, 60)
    return found[0]
