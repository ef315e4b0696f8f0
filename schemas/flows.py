"""Every flow: what it folds, whether its state has generations, and how nice its process is."""

from __future__ import annotations

from typing import Final, NamedTuple

from schemas import topics
from schemas.topics import CONTROL, EVENTS, ITEMS


class Flow(NamedTuple):
    """A flow is `flows/<name>.py`, or a folder of its name with `dataflow.py`.

    `topic`: what it folds, with a fence for each partition; "" where its log lies in Redis, or is every
    topic. `generational`: its keys carry a generation (`schemas.keys`); `sends`: others read what it sends,
    so a rebuild goes without it. `nice`: as nice(2) has it.
    """

    name: str
    topic: str
    generational: bool = False
    sends: bool = False
    nice: int = 0

    def partitions(self, count: int) -> int:
        """How many fences it has, where the installation's count is `count`."""
        return (topics.BY_NAME[self.topic].partitions or count) if self.topic else 0

    def generation(self, live: int) -> int:
        """The generation of its keys while `live` is live."""
        return live if self.generational else 0


# Tables and the lake may be a moment late; what a person just did may not. Not nicer than that: on a
# machine that has no time left they still get a third and a sixth of what others do, so both keep up.
FLOWS: Final = (
    Flow("people", EVENTS.name, generational=True),
    Flow("catalogue", ITEMS.name),
    Flow("control", CONTROL.name),
    Flow("rollup", "", generational=True, nice=5),
    Flow("relay", "", generational=True, sends=True),
    Flow("lake", "", nice=8),
)
"""In the order in which a system starts them. `people` is the one that several processes may share."""
BY_NAME: Final = {flow.name: flow for flow in FLOWS}
FOLDS: Final = tuple(flow for flow in FLOWS if flow.topic)
"""Those that fold a topic: they have fences, dead letters and a lag."""
GENERATIONAL: Final = tuple(flow.name for flow in FLOWS if flow.generational)
"""Those whose keys are made of `events`."""
REBUILT: Final = tuple(flow.name for flow in FLOWS if flow.generational and not flow.sends)
"""Those that `freshet rebuild` runs beside the live ones."""


def flows_of_topic(topic: str) -> list[Flow]:
    """The flows that fold the topic of this name."""
    return [flow for flow in FOLDS if flow.topic == topic]
