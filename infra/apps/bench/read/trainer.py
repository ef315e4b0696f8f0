"""Trains the release of the bench: `python -m infra.apps.bench.read.trainer CHOICES`, with the settings of a
running system in its environment.

It has its ranker also where few held-out choices do not show that it ranks better, and is judged by few: the
bench asks what a read costs, not how good it is. It does not serve before it is promoted.
"""

from __future__ import annotations

import sys
import time
from typing import Final

JUDGED_SHARE: Final = 0.1
"""Choices to judge by, and to choose counting and weights by, of those to learn from."""


def main(choices: int) -> None:
    """Learns from at most so many choices."""
    from flows.offline.history import read
    from infra.apps.train import publish, run
    from infra.apps.train.log import cut
    from infra.settings import from_environment
    from infra.terminal.progress import Reporter
    from infra.terminal.text import console

    settings, few = from_environment(), max(100, int(choices * JUDGED_SHARE))
    sizes, reporter = run.Sizes(choices, few, few), Reporter(console())
    made = run.train(cut(read(settings), ""), settings, reporter, sizes, always_rank=True)
    release = publish.write(settings, made, time.time_ns() // 1_000_000, "")
    reporter(f"Release {release}: {made.verdict.outcome}; {made.verdict.why}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
