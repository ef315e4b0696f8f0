"""What a run of the bench has measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from infra.apps.bench.door import Besieged
from infra.apps.bench.freshness import FreshRuns
from infra.apps.bench.imports import Imports
from infra.apps.bench.reads import Reads
from infra.apps.bench.rounds import Rounds
from infra.apps.bench.verify import Verified
from infra.apps.bench.writes.components import Components
from infra.apps.bench.writes.post import Posts
from infra.apps.bench.writes.strangers import Strangers


class Results(NamedTuple):
    """All measurements; None where a benchmark was skipped."""

    rounds: Rounds | None = None
    verified: Sequence[Verified] | None = None
    posts: Posts | None = None
    attacks: Mapping[str, Sequence[Besieged]] | None = None
    fresh: FreshRuns | None = None
    components: Components | None = None
    rollup: Mapping[str, Sequence[float]] | None = None
    reads: Reads | None = None
    imports: Imports | None = None
    strangers: Strangers | None = None
