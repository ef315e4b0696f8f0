"""Background tasks of a serving process start in order and stop in reverse, whichever fails."""

from __future__ import annotations

import asyncio

import pytest

from serving.state.background import Background, running


class Noted(Background):
    """A task that notes its calls. `fails`: the call that raises."""

    ready = True

    def __init__(self, name: str, done: list[str], fails: str = "") -> None:
        self.name, self._done, self._fails = name, done, fails

    async def start(self) -> None:
        await self._note("start")
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        await self._note("stop")

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def _note(self, what: str) -> None:
        self._done.append(f"{what} {self.name}")
        if what == self._fails:
            raise OSError(f"{what} {self.name}")


def calls_of(*fails: str) -> tuple[list[str], str]:
    """The calls to three tasks, and the error at the end; asserts that no asyncio task is left."""
    done: list[str] = []

    async def go() -> str:
        tasks = [Noted(name, done, why) for name, why in zip("abc", fails, strict=True)]
        try:
            async with running(tasks):
                done.append("run")
        except OSError as error:
            return str(error)
        finally:
            assert asyncio.all_tasks() == {asyncio.current_task()}
        return ""

    return done, asyncio.run(go())


def test_background_tasks_start_in_order_and_stop_in_reverse() -> None:
    whole = ["start a", "start b", "start c", "run", "stop c", "stop b", "stop a"]
    assert calls_of("", "", "") == (whole, "")


def test_a_task_that_fails_to_start_leaves_none_running() -> None:
    done, error = calls_of("", "start", "")
    assert done == ["start a", "start b", "stop b", "stop a"]
    assert error == "start b"


@pytest.mark.parametrize("fails", [("stop", "", ""), ("", "stop", ""), ("", "", "stop")])
def test_a_task_that_fails_to_stop_leaves_none_running(fails: tuple[str, str, str]) -> None:
    done, error = calls_of(*fails)
    assert done[-3:] == ["stop c", "stop b", "stop a"]
    assert error == f"stop {'abc'[fails.index('stop')]}"
