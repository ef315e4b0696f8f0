"""Every flow: the topic it folds, whether its state has generations, and the niceness of its process."""

from __future__ import annotations

from typing import Final, NamedTuple

from schemas import topics
from schemas.topics import CONTROL, EVENTS, ITEMS


class Flow(NamedTuple):
    """A flow is `flows/<name>.py`, or a folder of its name with `dataflow.py`.

    `topic`: what it folds, with a fence for each partition; "" where it reads a log in Redis, or every
    topic. `generational`: its keys carry a generation (`schemas.keys`). `sends`: other flows read what it
    sends, so a rebuild does not run it. `nice`: as in nice(2).
    """

    name: str
    topic: str
    generational: bool = False
    sends: bool = False
    nice: int = 0

    def partitions(self, count: int) -> int:
        """How many fences it has, where the installation has `count` partitions."""
        return (topics.BY_NAME[self.topic].partitions or count) if self.topic else 0

    def generation(self, live: int) -> int:
        """The generation of its keys while `live` is live."""
        return live if self.generational else 0


# Tables and the lake may lag a moment; a person's state may not. Not nicer than this: on a machine without
# idle time they still get a third and a sixth of the others' share, so both keep up.
FLOWS: Final = (
    Flow("people", EVENTS.name, generational=True),
    Flow("catalogue", ITEMS.name),
    Flow("control", CONTROL.name),
    Flow("rollup", "", generational=True, nice=5),
    Flow("relay", "", generational=True, sends=True),
    Flow("lake", "", nice=8),
)
"""In the order in which a system starts them. Several processes may share `people`, and no other."""
BY_NAME: Final = {flow.name: flow for flow in FLOWS}
FOLDS: Final = tuple(flow for flow in FLOWS if flow.topic)
"""The flows that fold a topic: they have fences, dead letters and a lag."""
GENERATIONAL: Final = tuple(flow.name for flow in FLOWS if flow.generational)
"""Names of the flows whose keys are made of `events`."""
REBUILT: Final = tuple(flow.name for flow in FLOWS if flow.generational and not flow.sends)
"""Names of the flows that `freshet rebuild` runs beside the live ones."""


def flows_of_topic(topic: str) -> list[Flow]:
    """The flows that fold the topic of this name."""
    return [flow for flow in FOLDS if flow.topic == topic]
