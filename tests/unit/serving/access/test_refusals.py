"""Whom a route refuses has asked no store: each cell of the table that is refused, in one process."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from infra.settings import Settings, signing_key
from schemas.events import Scale
from serving.app import create
from serving.edge.identity import People
from serving.metrics import Metrics
from serving.world.catalogue import ItemTable
from tests.support.grants import SHOP, Call, Role, calls, expected, roles, route_of


class Stores:
    """A context that has what is in memory alone; every other part is noted, and missing."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.people = People(signing_key(settings), settings.partitions)
        self.metrics = Metrics()
        self.catalogue = ItemTable()
        self.scale = Scale(*settings.scale)
        self.asked: list[str] = []

    def clock(self) -> int:
        return 0

    def make_id(self) -> str:
        return "1"

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        raise AttributeError(name)


async def asked(app: FastAPI, role: Role, call: Call) -> tuple[int, list[str]]:
    """The status of the answer, and which parts of the context were asked for."""
    stores = app.state.serving = Stores(app.state.settings)
    headers = {"Authorization": role.header, "Content-Type": "application/json"}
    if role.origin:
        headers["Origin"] = role.origin
    body = None if call.body is None else json.dumps(call.body).encode()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.request(call.method, call.path, content=body, headers=headers)
    return answer.status_code, stores.asked


def test_whom_a_route_refuses_has_asked_no_store(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, origins=SHOP)
    app = create(settings)

    async def scene() -> tuple[int, list[Any]]:
        refused, wrong = 0, []
        for name, role in roles(settings).items():
            for call in calls():
                status = expected(role, call, route_of(app, call).scope)
                if status is None:
                    continue
                refused += 1
                found = await asked(app, role, call)
                if found != (status, []):
                    wrong.append((name, call, found))
        return refused, wrong

    refused, wrong = asyncio.run(scene())
    assert refused > 500
    assert wrong == []


def test_whom_a_route_admits_is_noticed(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, origins=SHOP)
    everything = roles(settings)["everything"]
    call = Call("GET", "/v1/recommendations?user_id=u1", user_id="u1")
    status, stores = asyncio.run(asked(create(settings), everything, call))
    assert status == 500
    assert stores
