"""What a step raises, kept from the engine: it would print a panic and a stack of its own above the sentence.

The engine never sees it: the sources end as at the end of a log, every step that is still asked does
nothing, and whoever runs the flow raises what was kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bytewax.dataflow import Dataflow, Operator
from bytewax.inputs import AbortExecution

from infra.heartbeat import beat


class Failure:
    """The first error of a flow's steps, sources and sinks; None so far."""

    def __init__(self, flow: Dataflow) -> None:
        self.error: BaseException | None = None
        for operator in _all(flow.substeps):
            for name, kept in (
                ("mapper", self._step),
                ("source", self._source),
                ("sink", self._sink),
            ):
                if hasattr(operator, name):
                    _replace(operator, name, kept)

    def _step(self, step: Callable[[list[Any]], Iterable[Any]]) -> Callable[[list[Any]], list[Any]]:
        # a list, made here: what makes its items when it is asked for them would raise in the engine
        return lambda items: self._kept(lambda: list(step(items)), [])

    def _source(self, source: Any) -> Any:
        method = "build_part" if hasattr(source, "build_part") else "build"
        return _replace(source, method, self._built("next_batch", self._next))

    def _sink(self, sink: Any) -> Any:
        method = "build_part" if hasattr(sink, "build_part") else "build"
        return _replace(sink, method, self._built("write_batch", self._step_of_sink))

    def _built(self, method: str, kept: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda build: lambda *where: _replace(build(*where), method, kept)

    def _next(self, next_batch: Callable[[], Iterable[Any]]) -> Callable[[], list[Any]]:
        def asked() -> list[Any]:
            batch: list[Any] = self._kept(lambda: list(next_batch()), [])
            if self.error is not None:
                raise StopIteration
            return batch

        return asked

    def _step_of_sink(self, write: Callable[[list[Any]], None]) -> Callable[[list[Any]], None]:
        return lambda items: self._kept(lambda: write(items), None)

    def _kept(self, call: Callable[[], Any], otherwise: Any) -> Any:
        beat()
        if self.error is not None:
            return otherwise
        try:
            return call()
        except (StopIteration, AbortExecution):  # a source's way to end
            raise
        except BaseException as error:
            self.error = error
            return otherwise


def _all(operators: Iterable[Operator]) -> Iterator[Any]:
    """Those that the engine runs; the others are made of them."""
    for operator in operators:
        if operator.substeps:
            yield from _all(operator.substeps)
        else:
            yield operator


def _replace(held: Any, name: str, made: Callable[[Any], Any]) -> Any:
    # the engine's data model is frozen for those who build flows; this one is built
    object.__setattr__(held, name, made(getattr(held, name)))
    return held
