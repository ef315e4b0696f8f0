"""Which sources, rules and columns a decision has, and which of them the kernel knows.

C has tables of them in sources.c, rules.c and columns.c. What has no entry there is computed by Python for
the candidates of a request, and handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from models.kernels.loading import kernel
from schemas.state.counting import Mix
from serving.decide.pool import Kept, Pool, Retrieved
from serving.world.catalogue import Floats, Mask, Slots

IN_PYTHON: Final = -1
"""The code of what has no entry in C."""


class AnySource(Protocol):
    """As `sources.Source`."""

    @property
    def name(self) -> str: ...
    @property
    def retrieve(self) -> Callable[[Any, int], Retrieved]: ...
    @property
    def needed(self) -> Callable[[Any], bool]: ...


class AnyRule(Protocol):
    """As `rules.Rule`."""

    @property
    def name(self) -> str: ...
    @property
    def removes(self) -> Callable[[Any, Slots], Mask | None]: ...


class AnyColumn(Protocol):
    """As `columns.Column`."""

    @property
    def name(self) -> str: ...
    @property
    def value(self) -> Callable[[Any, Pool, Kept], Floats | None]: ...
    @property
    def reason(self) -> str: ...


class Entries:
    """All of them, in their order. `least_served(case)`: what the source `explore` brings."""

    def __init__(
        self,
        sources: Sequence[AnySource],
        rules: Sequence[AnyRule],
        columns: Sequence[AnyColumn],
        least_served: Callable[[Any], Slots],
        without: Collection[str] = (),
    ) -> None:
        """`without`: names that are computed by Python, whatever C knows."""
        self.sources, self.rules, self.columns = tuple(sources), tuple(rules), tuple(columns)
        self.least_served = least_served
        self.codes = {
            kind: {
                it.name: IN_PYTHON if it.name in without else _code(kind, it.name) for it in them
            }
            for kind, them in (("source", sources), ("rule", rules), ("column", columns))
        }
        """Kind -> name -> its code in C."""
        codes = self.codes["source"]
        self.foreign = tuple([it for it in self.sources if codes[it.name] == IN_PYTHON])
        """The sources of which C knows nothing."""

        self._sources = {it.name: it for it in self.sources}
        self._rules = {it.name: it for it in self.rules}
        self._columns = {it.name: it for it in self.columns}

    def source(self, name: str) -> AnySource:
        """The source of this name. Errors: KeyError."""
        return self._sources[name]

    def rule(self, name: str) -> AnyRule:
        """The rule of this name. Errors: KeyError."""
        return self._rules[name]

    def column(self, name: str) -> AnyColumn:
        """The column of this name. Errors: KeyError."""
        return self._columns[name]

    @property
    def in_python(self) -> dict[str, list[str]]:
        """Kind -> the names of those that Python computes: all, where there is no kernel."""
        return {
            kind: [name for name, code in codes.items() if code == IN_PYTHON]
            for kind, codes in self.codes.items()
        }


class Plan(NamedTuple):
    """A recipe, a release and a window prepared for the kernel: `struct` is a `decision_plan`.

    Where a field of it is by place, `sources`, `rules`, `weighted` (with weights) and `features` say what
    lies there. `mixes`: place of a source of popularity -> its mix, for people with an interest and for
    strangers. `held`: what the struct points to.
    """

    struct: Any
    sources: tuple[str, ...]
    rules: tuple[str, ...]
    weighted: tuple[tuple[str, float], ...]
    features: tuple[str, ...]
    mixes: Mapping[int, tuple[Mix, Mix]]
    held: object


def _code(kind: str, name: str) -> int:
    if kernel is None:
        return IN_PYTHON
    code: int = getattr(kernel.lib, f"decision_{kind}")(name.encode())
    return code
