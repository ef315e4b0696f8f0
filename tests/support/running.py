"""Flows run in the test's own process: events into the log, folds and the lake up to its end."""

from __future__ import annotations

from collections.abc import Iterable

from flows.kit.run import run_flow
from flows.kit.source import Reader
from flows.lake import dataflow as lake
from flows.people import dataflow
from infra.kafka import kafka_client
from infra.settings import Settings
from schemas import events
from schemas.identity import partition_of
from schemas.topics import EVENTS


def send_events(settings: Settings, made: Iterable[events.Event]) -> None:
    """Sends each event to the partition of its person, and returns once the broker has all."""
    producer = kafka_client.producer(settings, linger_ms=20)
    for event in made:
        key = event.person.encode()
        partition = partition_of(key, settings.partitions)
        producer.send(EVENTS.name, key=key, value=events.encode(event), partition=partition)
    producer.flush()
    producer.close()


def fold_people(settings: Settings) -> None:
    """Runs `people` up to the log's end. Errors: those of the flow."""
    worker = dataflow.People(settings, reader=Reader(settings, EVENTS.name, until_end=True))
    try:
        run_flow(dataflow.dataflow(worker))
    finally:
        worker.close()


def fill_lake(settings: Settings) -> None:
    """Runs `lake` up to the end of every topic. Errors: those of the flow."""
    flow = lake.Lake(settings, until_end=True)
    try:
        run_flow(lake.dataflow(flow))
    finally:
        flow.close()
