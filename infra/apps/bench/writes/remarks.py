"""Sentences about the write path, from the report's document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def remarks(report: Mapping[str, Any]) -> Iterator[str]:
    """Of what ran."""
    if report["post"]:
        yield _post(report)
    if attacks := report.get("door"):
        each = "; ".join(
            f"{name} {it['alone_ms']:.1f} to {it['p99_ms']:.1f} ms, {it['grown'] / 1e6:.1f} MB"
            for name, it in attacks.items()
        )
        yield f"p99 of others, alone and beside an attack on the door, and the memory it takes: {each}."
    for name in ("1000", "5000"):
        if load := (report.get("freshness") or {}).get(name):
            yield _freshness(report, name, load)
    if (at_1000 := report["cpu_us_per_event_at_1000"]) and (idle := report["idle_percent"]):
        yield (
            f"1,000 single POSTs/s that nobody reads cost {at_1000['sum']:,.0f} µs of CPU an event:"
            f" {listed(at_1000)}. A batch of the log holds"
            f" {report['cpu_at_1000']['records_a_batch']['edge']:.1f} records, one of people"
            f" {report['cpu_at_1000']['records_a_batch']['people']:.1f}. Without work the system uses"
            f" {idle['sum']:.1f} % of a core: {listed(idle)}."
        )
    if people := report["people"]:
        if people["replay_us"] is not None:
            yield (
                f"In a replay people uses {people['replay_us']:.1f} µs of CPU an event, a bare kafka-python"
                f" consumer {people['bare_consumer_us']:.1f} µs a record."
            )
        if people["at_1000_us"] is not None:
            yield f"At 1,000 events/s people uses {people['at_1000_us']:.0f} µs of CPU an event."
    if report["rollup"]:
        figures = report["rollup"]["us_per_entry"]
        items = " and ".join(f"{us:,.0f} µs with {int(n):,} items" for n, us in figures.items())
        yield f"The roll-up takes an entry of 4 events in {items}."
    if strangers := report.get("strangers"):
        grown = strangers["redis_grown_bytes"].items()
        each = ", ".join(f"{size / 1e6:.1f} MB after {int(reads):,}" for reads, size in grown)
        yield (
            f"Reads of ids that nobody has seen, at {strangers['partitions']} partitions, leave in Redis:"
            f" {each}; the rings hold {strangers['held']:,}. A served record of a stranger costs people"
            f" {strangers['people_us_per_served_record']:.1f} µs of CPU."
        )
    if served := report["served_record"]:
        yield (
            f"A served slate costs the broker and all flows {served['us']:.0f} µs of CPU,"
            f" {served['ratio_to_bare_guarded']:.2f} of a bare guarded route's request."
        )


def listed(by_component: Mapping[str, float]) -> str:
    """The components, without their sum."""
    return ", ".join(f"{name} {it:g}" for name, it in by_component.items() if name != "sum")


def _post(report: Mapping[str, Any]) -> str:
    post, details = report["post"], report["post_details"]
    return (
        f"At 300/s on one worker a single POST costs the edge {post['cpu_us']:.0f} µs of CPU without reads, a"
        f" bare route of FastAPI {report['bare_fastapi']:.0f} µs, a bare guarded route"
        f" {report['bare_guarded']:.0f} µs. That worker takes {post['single_worker_per_s']:,.0f} single"
        f" POSTs/s with p99 < 100 ms, a bare route of FastAPI"
        f" {details['bare_fastapi_single_worker_per_s']:,.0f} requests/s."
    )


def _freshness(report: Mapping[str, Any], name: str, load: Mapping[str, Any]) -> str:
    said = (
        f"Freshness at {int(name):,} events/s is {_times(report['freshness_ms'][name])}"
        f"{_beside(report['freshness_ms'][f'{name}_neighbours'])}"
    )
    if stages := load.get("stages_ms"):
        listed_stages = ", ".join(
            f"{what} {_times(stages[stage])}"
            for stage, what in (
                ("post", "the POST"),
                ("commit", "from its answer to the commit"),
                ("read", "from the commit to the read"),
            )
        )
        said += f"; of another run, by stage: {listed_stages}"
    batches = load["records_a_batch"]
    return f"{said}. Records a batch: {batches['edge']:.1f} in the log, {batches['people']:.1f} in people."


def _beside(figures: Mapping[str, float] | None) -> str:
    return f", beside busy loops {_times(figures)}" if figures else ""


def _times(figures: Mapping[str, float]) -> str:
    return f"{figures['p50']:.1f}/{figures['p99']:.1f} ms (p50/p99)"
