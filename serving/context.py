"""`Serving`: everything that a request may need, made once per process and passed as an argument."""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from starlette.requests import Request

from infra.settings import Settings, signing_key
from infra.store import redis_client
from infra.version import RELEASE
from schemas.alphabet import Millis
from schemas.events import Scale
from schemas.topics import EVENTS, ITEMS
from serving.access.policies import policies
from serving.decide import columns
from serving.edge.identity import People
from serving.edge.new_names import CatalogueNames
from serving.log.audit import AuditTrail
from serving.log.producer import LogProducer
from serving.log.slates import Slates
from serving.log.writes import Writes
from serving.metrics import Metrics
from serving.state.absent_items import AbsentItems
from serving.state.background import Component, running
from serving.state.clock import ClockCheck
from serving.state.compatibility import Compatibility
from serving.state.followers import CatalogueFollower, ControlFollower, TablesFollower
from serving.state.generation import Generation
from serving.state.idempotency import IdempotencyKeys
from serving.state.lag import Lag
from serving.state.leases import Leases
from serving.state.list_cache import ListCache
from serving.state.log_end import LogEnd
from serving.state.loop_lag import LoopLag
from serving.state.new_people import NewPeople
from serving.state.people import PersonReader
from serving.state.probe import Probe
from serving.state.queue import ReadQueue
from serving.state.releases import Releases
from serving.state.shed import ShedReads
from serving.state.spending import Spendings
from serving.state.tallies import Tallies
from serving.world.catalogue import ItemTable
from serving.world.filters import Filters
from serving.world.index import ContentIndex
from serving.world.placements import Control
from serving.world.tables import Tables


def wall_clock() -> Millis:
    return time.time_ns() // 1_000_000


@dataclass
class Serving:
    """One per process. What is not an argument is made from the arguments. `timer`, in seconds, times the
    stages of a read; `random_bytes` gives the randomness of slates."""

    settings: Settings
    redis: redis.asyncio.Redis
    producer: LogProducer
    people: People
    catalogue: ItemTable = field(default_factory=ItemTable)
    metrics: Metrics = field(default_factory=Metrics)
    clock: Callable[[], Millis] = wall_clock
    timer: Callable[[], float] = time.perf_counter
    random_bytes: Callable[[int], bytes] = os.urandom
    components: list[Component] = field(default_factory=list)
    make_id: Callable[[], str] = field(default_factory=lambda: numbered(secrets.token_hex(10)))
    scale: Scale = field(init=False)
    idempotency: IdempotencyKeys = field(init=False)
    filters: Filters = field(init=False)
    tables: Tables = field(init=False)
    index: ContentIndex = field(init=False)
    control: Control = field(default_factory=Control)
    generation: Generation = field(init=False)
    clock_check: ClockCheck = field(init=False)
    tallies: Tallies = field(init=False)
    log_end: LogEnd = field(init=False)
    absent_items: AbsentItems = field(init=False)
    lag: Lag = field(init=False)
    compatibility: Compatibility = field(init=False)
    reader: PersonReader = field(init=False)
    spendings: Spendings = field(init=False)
    leases: Leases = field(init=False)
    new_people: NewPeople = field(init=False)
    catalogue_names: CatalogueNames = field(init=False)
    queue: ReadQueue = field(init=False)
    loop_lag: LoopLag = field(default_factory=LoopLag)
    lists: ListCache = field(init=False)
    shed: ShedReads = field(init=False)
    releases: Releases = field(init=False)
    slates: Slates = field(init=False)
    writes: Writes = field(init=False)
    audit: AuditTrail = field(init=False)

    def __post_init__(self) -> None:
        self.scale = Scale(*self.settings.scale)
        self.idempotency = IdempotencyKeys(self.redis, self.settings, self.metrics)
        self.filters = Filters(self.catalogue)
        self.tables = Tables(self.catalogue)
        self.index = ContentIndex(
            self.catalogue, self.settings.exact_search, self.settings.retrieval
        )
        self.generation = Generation(self.redis, self.settings.keyspace)
        self.clock_check = ClockCheck(self.redis, lambda: self.clock(), self.metrics)
        self.tallies = Tallies(self.redis, self.generation, self.settings.partitions)
        self.log_end = LogEnd(self.settings, (EVENTS.name, ITEMS.name))
        self.absent_items = AbsentItems(self.settings, self.redis, self.log_end)
        self.lag = Lag(self.settings, self.redis, self.generation, self.metrics)
        self.compatibility = Compatibility(self.settings, self.redis, self.generation, self.metrics)
        limits = policies(self.settings)
        self.spendings = Spendings(self.settings, limits)
        self.leases = Leases(self.settings, self.redis, limits)
        self.new_people = NewPeople(self.redis, self.generation, self.leases)
        self.catalogue_names = CatalogueNames(self.catalogue)
        self.reader = PersonReader(
            self.redis,
            self.generation,
            self.log_end,
            self.compatibility.report_unreadable,
            self.spendings,
        )
        self.queue = ReadQueue(self.settings.shed_ms, lambda: self.reader.waiting)
        self.lists = ListCache(lambda: self.clock())
        self.shed = ShedReads(self.redis, self.settings.keyspace, self.metrics)
        self.releases = Releases(
            self.settings, self.control, self.catalogue, self.metrics, columns.COLUMN_NAMES
        )
        self.slates = Slates(self.producer, self.settings, self.metrics)
        self.writes = Writes(self.producer, self.settings, self.metrics)
        self.audit = AuditTrail(self.writes.append, self.metrics)

    @property
    def ranking_release(self) -> str:
        """The id of the release that ranks for people in no experiment; the version of this code where there
        is none."""
        loaded = self.releases.current
        return loaded.release.id if loaded else RELEASE

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: Settings, further: Sequence[Component] = ()
    ) -> AsyncIterator[Serving]:
        """Connects, and keeps the components and `further` ones running until the end. Errors: `KafkaError`,
        `kafka_client.TopicMismatch`, `BadSetting`."""
        people = People(signing_key(settings), settings.partitions, not_ids=settings.refused_ids)
        async with AsyncExitStack() as stack:
            # one retry, for a connection that died with a restart of Redis; no more, since a read can be
            # answered without the store, and a follower has a back-off of its own
            client = redis_client.connect_async(settings, retry=Retry(NoBackoff(), 1))
            stack.push_async_callback(client.aclose)
            producer = await LogProducer.open(settings)
            stack.push_async_callback(producer.close)
            serving = cls(settings, client, producer, people)
            stack.push_async_callback(serving.log_end.close)
            catalogue = CatalogueFollower(
                client, settings.keyspace, serving.index, settings.partitions
            )
            serving.components += [
                Probe(settings, client),
                serving.generation,
                serving.clock_check,
                serving.lag,
                serving.compatibility,
                ControlFollower(client, settings.keyspace, serving.control),
                catalogue,
                TablesFollower(client, serving.tables, serving.generation, catalogue),
                serving.releases,
                serving.slates,
                serving.writes,
                serving.leases,
                serving.new_people,
                *further,
            ]
            await stack.enter_async_context(running(serving.components))
            await stack.enter_async_context(running([serving.shed, serving.audit]))
            serving.loop_lag.start()
            stack.callback(serving.loop_lag.stop)
            yield serving


def numbered(prefix: str) -> Callable[[], str]:
    """A maker of unique ids: the random `prefix` of this process, and a number in hexadecimal."""
    numbers = itertools.count()
    return lambda: f"{prefix}{next(numbers):x}"


def state(request: Request) -> Serving:
    """The `Serving` of the app that received `request`."""
    serving: Serving = request.app.state.serving
    return serving
