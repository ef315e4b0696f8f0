"""All settings: read from the environment at start, frozen from then on."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from infra import access_settings, kafka_settings, limit_settings
from infra.limit_settings import LimitSettings
from infra.logs import LEVELS
from infra.variables import is_service_link, refusal_of_unknown
from schemas.errors import ConfigurationError
from schemas.identity import check_id
from schemas.reject import Rejected
from schemas.times import HOUR_MS

if TYPE_CHECKING:
    from schemas.keys import Keyspace

_CLUSTER: Final = "redis+cluster://"
MAX_STRANGERS: Final = 200_000
"""Of `Settings.strangers`: a partition's flow has them all in memory."""
MAX_RATING: Final = 1e12
"""Of the ends of `Settings.rating_scale`."""


class BadSetting(ConfigurationError):
    """A setting cannot be used; the text names the variable and says what it takes."""


class Settings(LimitSettings, frozen=True, kw_only=True):
    """Field ``x`` comes from the variable in `VARIABLES` (``FRESHET_X``, but ``KAFKA_X`` and ``REDIS_URL``),
    or from the file that the variable in `FILES` names. `freshet config` prints the text under a field."""

    redis_url: str = "redis://127.0.0.1:6379/0"
    """``redis://``, ``rediss://`` or ``unix://``; for a cluster ``redis+cluster://host:port,host:port``."""
    data_dir: Path = Path(".freshet")
    """Folder of a worker's own files: spools, the generated pseudonym key."""
    port: int = 8080
    """Port of the API; 0 is a free one."""
    pseudonym_keys: str = ""
    """``id:hex`` pairs, comma-separated, the first one signs; "" makes one in `data_dir`."""
    topic_prefix: str = ""
    """Before each topic's name on the broker, so that installations can share one; "" is none. For life."""
    partitions: int = 4
    """Partitions of each topic that this installation creates. For life: another count is a new topic and a
    rebuild."""
    batch: int = 2000
    """Most records of one partition in one transaction."""
    dedupe_hours: float = 24.0
    """How long it is kept what names an event (person, event_id, item, action): again within that time it
    counts once."""
    attribution_days: float = 7.0
    """For how long after a click or display in a slate a purchase that names no slate converts that slot."""
    touched_slots: int = 100
    """How many such slots are kept of a person, the newest, 24 bytes each."""
    unknown_live: int = 10_000
    """So many ids that no item has wait for one, by partition and day, of live events. What waits is bounded
    as it was at the log's beginning: another value needs a rebuild from there."""
    unknown_imported: int = 1_000_000
    """Likewise, of imported events."""
    unknown_days: int = 7
    """How many days the events on such an id wait for its item. Likewise."""
    max_seen: int = 20_000
    """Items that a person has seen and the system remembers, beside those bought, disliked or hidden. Another
    number takes a rebuild."""
    strangers: int = 20_000
    """Ids of a partition that were shown something and have done nothing yet: so many are kept, the newest,
    at most 250 B each; 0: all, and each as a person. Another number takes a rebuild."""
    rollup_seconds: float = 1.0
    """How often tables are added up and published while events come; without any, the roll-up sleeps."""
    base_seconds: float = 60.0
    """How often the roll-up stores its tables and trims the delta log: tens of MB through Redis each time."""
    release_dir: str = ""
    """Folder of the releases on this machine, each in a folder named like its id; "" is
    `data_dir`/releases."""
    release_url: str = ""
    """Where machines share releases: s3://bucket/prefix?region=... as `lake_url`, or a path. A trained
    release is uploaded, and what a machine lacks is fetched into `release_dir`; "": that folder is all."""
    readout_seconds: float = 3.0
    """How often the roll-up sends the readouts of experiments that have changed."""
    exact_search: int = 20_000
    """Catalogues up to this many items are searched exactly by USearch, larger ones by HNSW."""
    retrieval: str = "usearch"
    """What finds the nearest items: usearch, or scan, our own exact search. scan reads each item,
    at 3 to 8 ns and 132 B, and stays exact in a catalogue of any size."""
    lake_url: str = ""
    """Location of the lake: a path, or s3://bucket/prefix?region=... as pyarrow takes it (credentials from
    the usual AWS_ variables); "" is `data_dir`/lake."""
    lake_seconds: float = 5.0
    """How long the flow `lake` gathers records of a partition before it writes a file of them."""
    lake_keep_seconds: float = 600.0
    """How often those files are merged, and files that no reader needs any more deleted; 0: by hand only."""
    row_cache: int = 200_000
    """People's rows a worker keeps in memory, about 1.3 kB each."""
    poison_limit: int = 10_000
    """So many records in a row that no fold can take pause their partition, until an operator resumes it."""
    cold_days: float = 0.0
    """People not seen for so long move from Redis to the lake, until they come back; 0: never."""
    verify_seconds: float = 0.0
    """How often `freshet up` compares Redis with the log (freshet verify --every); 0: never."""
    hang_seconds: float = 60.0
    """How long a process of `freshet up` may give no sign of life before it is killed and started again: it
    is stopped, or its loop took so much CPU without an end; 0: for ever."""
    spool_bytes: int = 1 << 30
    """Most bytes that the spools under `data_dir` hold together of what the broker has not taken yet."""
    write_spool_bytes: int = 1 << 30
    """The same for what clients wrote while the broker was away; beyond it writes are refused with 503."""
    frames: str = "on"
    """on: served records and slates of a partition travel together in one record of the log, a frame; off:
    each by itself, for a consumer that reads no frames."""
    shed_ms: float = 50.0
    """While the reads that a serving process has taken need more CPU than this, it sheds new ones: they get
    the popular list at once (fallback overload), and nothing of them is logged. 0: it takes every read."""
    connections: int = 4096
    """Most connections of clients to one serving process; one more is answered 503. It keeps 128 of the files
    that it may open (ulimit -n) for itself."""
    connections_per_address: int = 1024
    """Likewise, of one address (IPv6: of one network, /64); one more is answered 429. All that comes through
    a proxy has the proxy's address. 0: no such bound."""
    metrics_port: int = 0
    """Port on which this process answers Prometheus; 0: none (serving also answers GET /metrics). With
    `freshet flows run people --workers N` it is the first process's, and each next one has the port above."""
    metrics_host: str = ""
    """Address for `metrics_port`; "" is loopback, since no token guards what is counted."""
    log_level: str = ""
    """Least level that a process logs: debug, info, warning or error; "" is info for the embedded broker,
    `freshet lake keep` and `freshet verify --every`, and warning for the others."""
    log_bytes: int = 16 << 20
    """Most bytes of a log file of `freshet up` and of `freshet flows run people --workers`; the three before
    it are kept (.log.1 and on). 0: no bound."""
    rating_scale: str = "1,5"
    """Scale of a rating that brings none: ``min,max`` or ``min,max,middle``. A value below the middle (of the
    two where none is given) speaks against the item."""
    not_ids: str = ""
    """Words that are no ids of people here, comma-separated, such as 0,guest; null, undefined, NaN, None and
    [object Object] never are. Upper and lower case are the same."""
    namespace: str = ""
    """In the name of every Redis key, so that installations may share a Redis; "": none. For life, as
    `partitions`: with another one all topics are folded again, beside the keys that are there."""

    @property
    def keyspace(self) -> Keyspace:
        """Redis keys of generation 0, which are also those of the flows without generations."""
        from schemas.keys import Keyspace  # imports numpy, which most commands do without

        return Keyspace(self.namespace)

    @property
    def releases(self) -> Path:
        """The folder of the releases on this machine."""
        return Path(self.release_dir) if self.release_dir else self.data_dir / "releases"

    @property
    def dedupe_ms(self) -> int:
        """`dedupe_hours` in ms."""
        return int(self.dedupe_hours * HOUR_MS)

    @property
    def refused_ids(self) -> frozenset[str]:
        """The words of `not_ids`, as `schemas.identity.check_person_id` compares them."""
        words = [word for word in self.not_ids.split(",") if word.strip()]
        return frozenset(check_id(word, VARIABLES["not_ids"]).casefold() for word in words)

    @property
    def scale(self) -> tuple[float, ...]:
        """Minimum, maximum, and middle where `rating_scale` has it. Errors: ValueError."""
        return tuple(map(float, self.rating_scale.split(",")))


VARIABLES: Final[Mapping[str, str]] = {
    name: name.upper()
    if name.startswith("kafka_") or name == "redis_url"
    else f"FRESHET_{name.upper()}"
    for name in Settings.__struct_fields__
}
SECRETS: Final = (
    "token",
    "issuer_key",
    "pseudonym_keys",
    "kafka_sasl_password",
    "kafka_ssl_key_password",
)
"""Fields that are never shown."""
FILES: Final[Mapping[str, str]] = {
    name: f"{VARIABLES[name]}_FILE" for name in (*SECRETS, "redis_url", "lake_url", "release_url")
}
"""Field -> the variable that names a file with its value: fields that are secret or may hold a password."""


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings that the environment gives.

    Errors: `BadSetting`, also for an unknown variable; it names the variable, never its value.
    """
    refuse_unknown(environment)
    return from_record(environment)


def refuse_unknown(environment: Mapping[str, str]) -> None:
    """Errors: `BadSetting` for an unknown variable, with the nearest name."""
    if sentence := refusal_of_unknown(environment, (*VARIABLES.values(), *FILES.values())):
        raise BadSetting(sentence)


def from_record(environment: Mapping[str, str]) -> Settings:
    """As `from_environment`, from the record of a running system, which may be of another version: an unknown
    variable is ignored. Errors: `BadSetting`."""
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        text = _text(field.name, environment)
        if text is None:
            continue
        if field.name == "token":
            text = text.strip()  # of a shell's line, or of a secret store
        try:
            values[field.name] = (
                Path(text)
                if field.type is Path
                else msgspec.convert(text, field.type, strict=False)
            )
        except msgspec.ValidationError:
            raise BadSetting(_mistyped(VARIABLES[field.name], text, field.type)) from None
    settings = Settings(**values)
    _check(settings)
    return settings


def is_given(name: str, environment: Mapping[str, str]) -> bool:
    """Whether the environment gives field `name`, by a value or by a file."""
    return VARIABLES[name] in environment or bool(environment.get(FILES.get(name, "")))


def _text(name: str, environment: Mapping[str, str]) -> str | None:
    """The value of field `name`; None where the environment does not give it. Errors: `BadSetting`."""
    variable, file = VARIABLES[name], FILES.get(name, "")
    text = environment.get(variable)
    path = environment.get(file)
    if not path:
        return text
    if text:
        raise BadSetting(f"{file} and {variable} are both given: leave one of them out")
    try:
        content = Path(path).read_text()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no text"
        raise BadSetting(
            f"{file} names a file that cannot be read ({why}): make it readable for this process, or set"
            f" {variable}"
        ) from None
    if not (value := content.removesuffix("\n").removesuffix("\r")):
        raise BadSetting(f"{file} names an empty file: write the value into it, or set {variable}")
    return value


def _mistyped(variable: str, text: str, kind: type) -> str:
    if is_service_link(variable, text):
        return (
            f"{variable} is what Kubernetes sets for a service of that name, and no port: set"
            " enableServiceLinks: false in the pod's spec, or name the service otherwise"
        )
    if kind is bool:
        return f"{variable} must be true or false"
    return f"{variable} must be of type {kind.__name__}"


def to_environment(settings: Settings) -> dict[str, str]:
    """The environment that gives a child process the same settings; a value from a file is in it too."""
    return {variable: str(getattr(settings, name)) for name, variable in VARIABLES.items()}


def _check(settings: Settings) -> None:
    above_zero = (
        "partitions",
        "batch",
        "unknown_live",
        "unknown_imported",
        "unknown_days",
        "rollup_seconds",
        "base_seconds",
        "readout_seconds",
        "lake_seconds",
        "dedupe_hours",
        "attribution_days",
        "touched_slots",
        "max_seen",
        "spool_bytes",
        "write_spool_bytes",
        "poison_limit",
        "connections",
    )
    for name in above_zero:
        if getattr(settings, name) <= 0:
            raise BadSetting(f"{VARIABLES[name]} must be above 0")
    if settings.connections_per_address < 0:
        raise BadSetting("FRESHET_CONNECTIONS_PER_ADDRESS must be 0 (no bound) or more")
    if settings.log_bytes and settings.log_bytes < 4096:
        raise BadSetting("FRESHET_LOG_BYTES must be 0 (no bound) or at least 4096")
    if not 0 <= settings.strangers <= MAX_STRANGERS:
        raise BadSetting(
            f"FRESHET_STRANGERS must be 0 (each is kept as a person) to {MAX_STRANGERS}"
        )
    if not settings.cold_days >= 0:
        raise BadSetting("FRESHET_COLD_DAYS must be 0 (never) or more")
    if not 0 <= settings.shed_ms < float("inf"):
        raise BadSetting("FRESHET_SHED_MS must be 0 (no read is shed) or more")
    for name in ("verify_seconds", "lake_keep_seconds"):
        if getattr(settings, name) and not getattr(settings, name) >= 1:
            raise BadSetting(f"{VARIABLES[name]} must be 0 (never) or at least 1")
    if settings.hang_seconds and not settings.hang_seconds >= 3:
        raise BadSetting("FRESHET_HANG_SECONDS must be 0 (never killed) or at least 3")
    if not 0 <= settings.port < 65536:
        raise BadSetting("FRESHET_PORT must be 0 (a free one) to 65535")
    if not 0 <= settings.metrics_port < 65536:
        raise BadSetting("FRESHET_METRICS_PORT must be 0 (none) to 65535")
    if settings.frames not in ("on", "off"):
        raise BadSetting("FRESHET_FRAMES must be on or off")
    if settings.retrieval not in ("usearch", "scan"):
        raise BadSetting("FRESHET_RETRIEVAL must be usearch or scan")
    if settings.log_level not in ("", *LEVELS):
        raise BadSetting(f"FRESHET_LOG_LEVEL takes one of {', '.join(LEVELS)}")
    if not re.fullmatch("[a-z0-9._-]{0,32}", settings.topic_prefix):
        raise BadSetting(
            "FRESHET_TOPIC_PREFIX takes at most 32 of a-z, 0-9, '.', '_' and '-', such as shop.; leave it"
            " out for none"
        )
    refusals = access_settings.refusal, limit_settings.refusal, kafka_settings.refusal
    for refusal in refusals:
        if sentence := refusal(settings):
            raise BadSetting(sentence)
    if not _is_redis_url(settings.redis_url):
        raise BadSetting(
            "REDIS_URL takes redis://host:port/number, rediss://, unix://, or for a cluster"
            " redis+cluster://host:port,host:port"
        )
    if not re.fullmatch("[a-z0-9-]{0,16}", settings.namespace):
        raise BadSetting(
            "FRESHET_NAMESPACE takes 1 to 16 of a-z, 0-9 and - (it goes into the hash tag of every"
            " Redis key): name it so, or leave it unset, which is none"
        )
    if not _is_scale(settings.rating_scale):
        raise BadSetting(
            "FRESHET_RATING_SCALE takes min,max or min,max,middle: min below max, the middle between"
            " them, such as 1,5"
        )
    try:
        _ = settings.refused_ids
    except Rejected as error:
        raise BadSetting(
            f"FRESHET_NOT_IDS takes ids with commas between them, such as 0,guest ({error.code})"
        ) from None
    if settings.pseudonym_keys:
        signing_key(settings)


def _is_scale(text: str) -> bool:
    try:
        least, most, *middle = map(float, text.split(","))
    except ValueError:
        return False
    within = all(least <= each <= most for each in middle)
    # a NaN fails the comparisons
    return len(middle) <= 1 and -MAX_RATING <= least < most <= MAX_RATING and within


def _is_redis_url(url: str) -> bool:
    if url.startswith(_CLUSTER):
        nodes = url.removeprefix(_CLUSTER).partition("/")[0].split(",")
        return all(re.fullmatch(r"[^:/]+:[0-9]+", node) for node in nodes)
    try:
        split = urlsplit(url)
        _ = split.port  # a port that is no number is a ValueError
    except ValueError:
        return False
    return split.scheme in ("redis", "rediss", "unix")


def signing_key(settings: Settings) -> tuple[int, bytes]:
    """The pseudonym key in use, as (id, secret); made once under `data_dir` where none is given.

    Errors: `BadSetting`.
    """
    if settings.pseudonym_keys:
        identifier, colon, secret = settings.pseudonym_keys.split(",")[0].strip().partition(":")
        try:
            number, key = int(identifier), bytes.fromhex(secret)
        except ValueError:
            number, key = -1, b""
        if not colon or not 0 <= number <= 255 or len(key) < 16:
            raise BadSetting(
                "FRESHET_PSEUDONYM_KEYS takes id:hex pairs, id 0 to 255, 16 bytes or more"
            )
        return number, key
    path = settings.data_dir / "pseudonym.key"
    try:
        key = bytes.fromhex(made_once(path, lambda: secrets.token_hex(32)).strip())
    except ValueError:
        key = b""
    if len(key) < 16:
        raise BadSetting(
            f"{path} holds no key of 16 bytes or more in hex: restore it, or set"
            " FRESHET_PSEUDONYM_KEYS"
        )
    return 1, key


def made_once(path: Path, make: Callable[[], str]) -> str:
    """The text of a file of secrets, made unless it is there: workers that start together all use the first
    one's. Only its owner may read it."""
    if not path.exists():
        _write_once(path, make())
    return path.read_text()


def _write_once(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        # written first, named afterwards: no worker reads half a key (an empty one signs too)
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink()
