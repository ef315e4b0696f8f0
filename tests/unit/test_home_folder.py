"""No code of ours, and no library of ours, writes into the user's home folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import lightgbm
import numpy as np

from models.training.onnx import export
from tests.unit.test_house import PACKAGES, ROOT

# as serving does: ONNX Runtime before USearch, a session, a ranking
_RANK = """
import sys
import numpy as np
from models.release.artefact import ranker
import serving.world.index
rank = ranker(open(sys.argv[1], "rb").read(), 2)
assert rank(np.ones((3, 2), np.float32)).shape == (3,)
"""


def test_a_process_that_ranks_leaves_the_home_folder_as_it_was(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random((100, 2))
    model = lightgbm.train(
        {"verbosity": -1, "num_threads": 1}, lightgbm.Dataset(rows, rows[:, 0] > 0.5), 2
    )
    (tmp_path / "ranker.onnx").write_bytes(export(model, [0.0, 0.0]))
    home = tmp_path / "home"
    home.mkdir()
    # the environment may have switched telemetry off already, and ONNX Runtime does where CI is set
    spared = ("XDG_", "ORT_", "CI")
    environment = {key: it for key, it in os.environ.items() if not key.startswith(spared)}
    subprocess.run(
        [sys.executable, "-c", _RANK, str(tmp_path / "ranker.onnx")],
        env={**environment, "HOME": str(home)},
        cwd=ROOT,
        check=True,
    )
    assert sorted(it.relative_to(home) for it in home.rglob("*")) == []


def test_onnx_runtime_is_imported_in_one_place() -> None:
    imports = re.compile(r"^\s*(?:import|from) onnxruntime\b", re.MULTILINE)
    found = [
        path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if imports.search(path.read_text())
    ]
    assert len(found) == 1, found
