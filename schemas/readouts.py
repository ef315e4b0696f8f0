"""`experiments`: readouts of each experiment, again and again; the last revision wins."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.alphabet import Millis
from schemas.headers import Schema

SCHEMA: Final = Schema("readout", 1)


class MetricOut(msgspec.Struct, kw_only=True):
    """`value` = numerator / denominator, with its interval; None where nothing was counted."""

    value: float | None
    ci: tuple[float, float] | None
    numerator: int
    denominator: int


class VariantOut(msgspec.Struct, kw_only=True):
    """`units`: people. `counts`: slots served, displayed, clicked, and converted in all; `attribution`: the
    conversions of purchases that name the slate (direct), and of those that name none and came after a click
    (last_click) or only after a display (last_view)."""

    variant: str
    share: float
    units: int
    counts: dict[str, int]
    attribution: dict[str, int] = {}
    metrics: dict[str, MetricOut]


class Comparison(msgspec.Struct, kw_only=True):
    """`lift` of treatment over control, relative, with its interval at level 1 - `alpha`."""

    metric: str
    control: str
    treatment: str
    lift: float | None
    ci: tuple[float, float] | None
    alpha: float
    method: str
    always_valid: bool = False


class Readout(msgspec.Struct, kw_only=True):
    """`revision` grows; `positions`: exactly the records before these offsets of `events` are in it."""

    experiment_id: str
    version: int
    placement: str
    revision: int
    positions: tuple[int, ...]
    as_of: Millis
    variants: tuple[VariantOut, ...]
    comparisons: tuple[Comparison, ...]


DECODER: Final = msgspec.json.Decoder(Readout)


def decode(value: bytes) -> Readout:
    return DECODER.decode(value)
