"""Processes whose work may be cut anywhere stop on SIGTERM, also within a call of C code."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from infra.local.plan import ROOT
from infra.local.supervisor import last_line
from infra.signals import die_with_parent
from tests.support.waits import until

# one call that takes hours and holds no lock of the interpreter's, as a sort on a busy machine seems to
ENDLESS = """
    import hashlib, sys
    from pathlib import Path
    from infra.settings import Settings

    def work(*_, **__):
        print("at work", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

    settings = Settings(data_dir=Path(sys.argv[1]))
"""
KEEPER = "from infra.lake import keep as it; it.keep = work; it.run(settings, 600)"
VERIFIER = "from flows.verify import repeat as it; it.verify = work; it.run(settings, 600, 1)"


@pytest.mark.parametrize("process", [KEEPER, VERIFIER], ids=["lake keep", "verify --every"])
def test_a_process_stops_at_once_in_the_midst_of_its_work(process: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = textwrap.dedent(ENDLESS) + process
    with log.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "data")],
            cwd=ROOT,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent(),
        )
    try:
        until(lambda: last_line(log) == "at work" or running.poll() is not None)
        running.terminate()
        assert running.wait(30) == 0, log.read_text()
    finally:
        running.kill()
        running.wait()
