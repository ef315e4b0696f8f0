"""The demo's experiment: popularity against the personal list, as the API runs and counts it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, Final

import msgspec

from infra.apps.demo.wait import everywhere
from infra.client.http import Broken, Client

ID: Final = "home-ranker"
CONTROL: Final = "popularity"
TREATMENT: Final = "personal"
TARGET: Final = f"/v1/experiments/{ID}"
BODY: Final[dict[str, Any]] = {
    "expected_version": 0,
    "experiment": {
        "placement": "home",
        "variants": [
            {"name": CONTROL, "share": 0.5, "placement": "popular"},
            {"name": TREATMENT, "share": 0.5},
        ],
    },
}
SECONDS: Final = 20.0
"""How long the flows may take to catch up."""
CTR: Final = "ctr"


class NoExperiment(RuntimeError):
    """The API did not take it; the text says what it answered."""


class Metric(msgspec.Struct):
    value: float | None
    ci: tuple[float, float] | None = None
    numerator: int = 0
    denominator: int = 0


class Variant(msgspec.Struct):
    """`counts`: slots by state."""

    variant: str
    units: int = 0
    counts: dict[str, int] = {}
    metrics: dict[str, Metric] = {}

    @property
    def ctr(self) -> Metric:
        return self.metrics.get(CTR) or Metric(None)


class Comparison(msgspec.Struct):
    metric: str
    control: str
    treatment: str
    lift: float | None
    ci: tuple[float, float] | None


class Metrics(msgspec.Struct):
    """What the demo needs of ``GET /v1/experiments/{id}/metrics`` (API.md)."""

    version: int = 0
    variants: list[Variant] = []
    comparisons: list[Comparison] = []

    def of(self, name: str) -> Variant:
        return next((it for it in self.variants if it.variant == name), Variant(name))

    @property
    def lift(self) -> Comparison:
        """Of the click rate, the treatment's over the control's."""
        found = (it for it in self.comparisons if (it.metric, it.treatment) == (CTR, TREATMENT))
        return next(found, Comparison(CTR, CONTROL, TREATMENT, None, None))


async def start(url: str, token: str) -> None:
    """Puts the experiment; returns when every worker has it. Errors: `NoExperiment`,
    `NotEverywhere`, `Broken`."""
    async with Client(url, token, connections=1) as client:
        answer = await client.put(TARGET, BODY)
    if answer.status != 202:
        raise NoExperiment(f"PUT {TARGET} was answered {answer.problem}")
    await everywhere(url, token, TARGET, lambda it: it.status == 200, f"experiment {ID}")


async def metrics(client: Client) -> Metrics | None:
    """None where there is nothing yet. Errors: `Broken`."""
    answer = await client.get(f"{TARGET}/metrics")
    if answer.status != 200:
        return None
    return msgspec.json.decode(answer.body, type=Metrics)


async def settled(client: Client, sent: dict[str, dict[str, int]]) -> tuple[Metrics | None, bool]:
    """What the API says once it has counted `sent` (variant -> state -> slots), or what it says last;
    and whether it counted just that."""
    until, told = time.monotonic() + SECONDS, None
    while True:
        with contextlib.suppress(Broken):
            told = await metrics(client) or told
        if told and counted(told, sent):
            return told, True
        if time.monotonic() > until:
            return told, False
        await asyncio.sleep(0.1)


def counted(told: Metrics, sent: dict[str, dict[str, int]]) -> bool:
    """Whether the API counted what was sent, state by state, variant by variant; not of nothing."""
    return bool(sent) and all(
        told.of(name).counts.get(state, 0) == slots
        for name, states in sent.items()
        for state, slots in states.items()
    )
