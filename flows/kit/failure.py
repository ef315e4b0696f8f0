"""Errors of steps, kept from the engine, which would print a panic and its own stack above the message.

After an error the sources end as at the end of a log, the other steps do nothing, and `run_flow` raises
the error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bytewax.dataflow import Dataflow, Operator
from bytewax.inputs import AbortExecution

from infra.heartbeat import beat


class Failure:
    """Wraps a flow's steps, sources and sinks. `error`: the first that one of them raised, or None."""

    def __init__(self, flow: Dataflow) -> None:
        self.error: BaseException | None = None
        for operator in _leaf_operators(flow.substeps):
            for name, wrapper in (
                ("mapper", self._step),
                ("source", self._source),
                ("sink", self._sink),
            ):
                if hasattr(operator, name):
                    _wrap_attribute(operator, name, wrapper)

    def _step(self, step: Callable[[list[Any]], Iterable[Any]]) -> Callable[[list[Any]], list[Any]]:
        # a list, made here: a lazy iterable would raise inside the engine
        return lambda items: self._guarded(lambda: list(step(items)), [])

    def _source(self, source: Any) -> Any:
        method = "build_part" if hasattr(source, "build_part") else "build"
        return _wrap_attribute(source, method, self._built("next_batch", self._next))

    def _sink(self, sink: Any) -> Any:
        method = "build_part" if hasattr(sink, "build_part") else "build"
        return _wrap_attribute(sink, method, self._built("write_batch", self._step_of_sink))

    def _built(self, method: str, wrapper: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda build: lambda *args: _wrap_attribute(build(*args), method, wrapper)

    def _next(self, next_batch: Callable[[], Iterable[Any]]) -> Callable[[], list[Any]]:
        def next_or_end() -> list[Any]:
            batch: list[Any] = self._guarded(lambda: list(next_batch()), [])
            if self.error is not None:
                raise StopIteration
            return batch

        return next_or_end

    def _step_of_sink(self, write: Callable[[list[Any]], None]) -> Callable[[list[Any]], None]:
        return lambda items: self._guarded(lambda: write(items), None)

    def _guarded(self, call: Callable[[], Any], otherwise: Any) -> Any:
        beat()
        if self.error is not None:
            return otherwise
        try:
            return call()
        except (StopIteration, AbortExecution):  # a source ends
            raise
        except BaseException as error:
            self.error = error
            return otherwise


def _leaf_operators(operators: Iterable[Operator]) -> Iterator[Any]:
    """The operators that the engine runs: those without substeps."""
    for operator in operators:
        if operator.substeps:
            yield from _leaf_operators(operator.substeps)
        else:
            yield operator


def _wrap_attribute(owner: Any, name: str, wrap: Callable[[Any], Any]) -> Any:
    # the engine's data model is frozen while a flow is built; this flow is built
    object.__setattr__(owner, name, wrap(getattr(owner, name)))
    return owner
