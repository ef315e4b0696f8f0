"""How a file is to be read where its own names and its encoding don't say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class ReadOptions(NamedTuple):
    """What the owner of a file says about it.

    `columns`: field of the API -> column (of NDJSON: key) that holds it; ``attributes.NAME`` and
    ``context.NAME`` are fields, too. `constants`: field -> its value in every row, as text. `encoding`: name
    of the text's encoding; None: recognised by content.
    """

    columns: Mapping[str, str] = {}
    constants: Mapping[str, str] = {}
    encoding: str | None = None


AS_IT_IS = ReadOptions()
"""Nothing is said: names, layout and encoding are those of the file."""
