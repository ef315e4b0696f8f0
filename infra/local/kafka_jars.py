"""Apache Kafka's jars: some 45 files, 43 MB, fetched with Maven once.

They are kept under `${XDG_CACHE_HOME:-~/.cache}/freshet/kafka-VERSION`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from infra.shipped import shipped
from schemas.errors import ConfigurationError

VERSION: Final = "4.4.0"
MIN_JAVA: Final = 17
FETCH_SECONDS: Final = 600.0
POM: Final = Path(__file__).parents[1] / "deploy" / "kafka" / "pom.xml"


class KafkaFailed(ConfigurationError):
    """Apache Kafka, or the fetching of its jars, failed; the text is the reason or the end of the output."""


def missing_tool() -> str | None:
    """Why Apache Kafka cannot run on this machine, or None if it can."""
    if shutil.which("java") is None:
        return "there is no java"
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', java.stderr)
    if version is None or int(version[1]) < MIN_JAVA:
        return f"java is older than {MIN_JAVA}"
    if shutil.which("mvn") is None and not are_fetched():
        return "there is no mvn to fetch Apache Kafka with"
    return None


def are_fetched() -> bool:
    return (_folder() / ".complete").exists()


def fetch_jars() -> Path:
    """The folder of Apache Kafka's jars, fetched with Maven the first time.

    Errors: `KafkaFailed`, `Unusable`, `Incomplete`.
    """
    jars = _folder()
    if are_fetched():
        return jars
    jars.mkdir(parents=True, exist_ok=True)
    command = [
        "mvn",
        "-B",
        "-q",
        "-f",
        str(shipped(POM)),
        f"-Dkafka.version={VERSION}",
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
        f"-DoutputDirectory={jars}",
    ]
    try:
        maven = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=FETCH_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KafkaFailed(f"cannot fetch Apache Kafka: {type(error).__name__}") from error
    if maven.returncode != 0:
        raise KafkaFailed(f"cannot fetch Apache Kafka: {(maven.stdout + maven.stderr)[-2000:]}")
    (jars / ".complete").touch()
    return jars


def _folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "freshet" / f"kafka-{VERSION}"
