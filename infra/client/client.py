"""A typed client of the API: a method for each route, over keep-alive connections, in one event loop.

>>> async def click(url: str) -> Answer:
...     async with Client(url) as client:
...         event = EventIn(user_id="ann", item_id="alien", action="click")
...         sent = await client.send_events([event])
...         answer = await client.recommendations("ann", after=sent.value.positions[0])
...     return answer.value
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar
from urllib.parse import quote

import msgspec

from infra.client.answers import (
    Accepted,
    Answer,
    CatalogueItem,
    ExperimentHeld,
    ExperimentMetrics,
    LinkAnswer,
    Status,
    Written,
)
from infra.client.errors import ApiError
from infra.client.http import Broken, Pool
from infra.client.token import found
from schemas.control import Experiment, Recipe
from schemas.events import EventIn
from schemas.items import ItemIn

ITEMS: Final = "/v1/items"
EVENTS: Final = "/v1/events"
HISTORY: Final = "/v1/events?mode=import"
EXPERIMENTS: Final = "/v1/experiments"
PLACEMENTS: Final = "/v1/placements"
STATUS: Final = "/v1/status"
USERS: Final = "/v1/users"
SUCCESS_STATUSES: Final = (200, 202)

T = TypeVar("T")


class Timed(NamedTuple, Generic[T]):
    """An answer and its times, without the wait for a free connection.

    `began`: just before the first byte was sent; `ended`: after the last byte came (`perf_counter`, s).
    """

    value: T
    began: float
    ended: float

    @property
    def ms(self) -> float:
        """How long the request took."""
        return (self.ended - self.began) * 1000


class Client:
    """A client with at most `connections` requests at once. `token`: "" for none; None for the one that
    `infra.client.token` finds. Errors of every method: `ApiError`."""

    def __init__(self, url: str, token: str | None = None, connections: int = 32) -> None:
        self._pool = Pool(url, found(url) if token is None else token, connections)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._pool.close()

    async def recommendations(
        self,
        user_id: str,
        *,
        placement: str | None = None,
        count: int | None = None,
        after: str | None = None,
        max_wait_ms: int | None = None,
        now: str | None = None,
    ) -> Timed[Answer]:
        """A slate for a person. A parameter that is None has the API's default."""
        query = _query(
            user_id=user_id,
            placement=placement,
            count=count,
            after=after,
            max_wait_ms=max_wait_ms,
            now=now,
        )
        return await self._request("GET", f"/v1/recommendations?{query}", Answer)

    async def send_events(
        self, events: Sequence[EventIn | Mapping[str, Any]], *, history: bool = False
    ) -> Timed[Accepted]:
        """Sends events; `history`: as an import. Errors: `ApiError` 422 where all are rejected."""
        return await self._request(
            "POST", HISTORY if history else EVENTS, Accepted, {"events": events}
        )

    async def link(self, user_id: str, anonymous_id: str) -> LinkAnswer:
        """Links an anonymous id to a user, as at a log-in."""
        return await self._link(user_id, anonymous_id, "link")

    async def unlink(self, user_id: str, anonymous_id: str) -> LinkAnswer:
        """Ends the link of an anonymous id to a user, as at a log-out: the anonymous id starts empty."""
        return await self._link(user_id, anonymous_id, "unlink")

    async def _link(self, user_id: str, anonymous_id: str, verb: str) -> LinkAnswer:
        target, body = f"{USERS}/{_segment(user_id)}:{verb}", {"anonymous_id": anonymous_id}
        return (await self._request("POST", target, LinkAnswer, body)).value

    async def send_items(self, items: Sequence[ItemIn | Mapping[str, Any]]) -> Accepted:
        """Sends items. Errors: `ApiError` 422 where all are rejected."""
        return (await self._request("POST", ITEMS, Accepted, {"items": items})).value

    async def put_item(self, item_id: str, item: ItemIn) -> Written:
        """Writes one item."""
        return (await self._request("PUT", f"{ITEMS}/{_segment(item_id)}", Written, item)).value

    async def item(self, item_id: str) -> CatalogueItem:
        """An item of the catalogue."""
        return await self.get(f"{ITEMS}/{_segment(item_id)}", CatalogueItem)

    async def put_placement(
        self, placement: str, recipe: Recipe, *, expected_version: int = 0, reason: str = ""
    ) -> Written:
        """Sends a placement's recipe. `expected_version`: of the recipe that it replaces, 0 for a new one.

        With another version the change has no effect.
        """
        body = {"expected_version": expected_version, "reason": reason, "recipe": recipe}
        return (
            await self._request("PUT", f"{PLACEMENTS}/{_segment(placement)}", Written, body)
        ).value

    async def put_experiment(
        self,
        experiment_id: str,
        experiment: Experiment,
        *,
        expected_version: int = 0,
        reason: str = "",
    ) -> Written:
        """Sends an experiment. `expected_version`: of the one that it replaces, 0 for a new one.

        With another version the change has no effect.
        """
        body = {"expected_version": expected_version, "reason": reason, "experiment": experiment}
        return (await self._request("PUT", _experiment(experiment_id), Written, body)).value

    async def experiment(self, experiment_id: str) -> ExperimentHeld:
        """The experiment in force."""
        return await self.get(_experiment(experiment_id), ExperimentHeld)

    async def metrics(self, experiment_id: str) -> ExperimentMetrics:
        """The readout of an experiment."""
        return await self.get(f"{_experiment(experiment_id)}/metrics", ExperimentMetrics)

    async def status(self) -> Status:
        """The status of the process that answers."""
        return await self.get(STATUS, Status)

    async def get(self, target: str, kind: type[T]) -> T:
        """The answer of `target` as a `kind`: for a route that has no method here."""
        return (await self._request("GET", target, kind)).value

    async def _request(
        self, method: str, target: str, kind: type[T], body: object = None
    ) -> Timed[T]:
        content = b"" if body is None else msgspec.json.encode(body)
        try:
            response = await self._pool.request(method, target, content)
        except Broken as error:
            raise ApiError(0, str(error)) from None
        if response.status not in SUCCESS_STATUSES:
            raise ApiError.from_response(response.status, response.body)
        return Timed(decode(response.status, response.body, kind), response.began, response.ended)


def decode(status: int, body: bytes, kind: type[T]) -> T:
    """The body of an answer as a `kind`. Errors: `ApiError` where the body is not what the API answers."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ApiError(status, "unreadable") from None


def _query(**parameters: str | int | None) -> str:
    """The query of a URL with the parameters that are not None, in their order."""
    # a query may hold a colon unquoted, and every position and time has one
    pairs = [(name, str(value)) for name, value in parameters.items() if value is not None]
    return "&".join([f"{name}={quote(value, safe=':')}" for name, value in pairs])


def _segment(identifier: str) -> str:
    return quote(identifier, safe="")


def _experiment(experiment_id: str) -> str:
    return f"{EXPERIMENTS}/{_segment(experiment_id)}"
