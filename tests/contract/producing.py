"""`python -m tests.contract.producing HOST:PORT TOPIC`: produces numbers until its stdin closes.

Prints `producing` once it does, and at the end one line for each value that was acknowledged:
partition, offset, value.  A process of its own, because kafka-python leaves the sockets of
connects that failed unclosed.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from kafka import KafkaProducer

SECONDS = 30.0


def main(bootstrap: str, topic: str) -> None:
    stop = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    producer = KafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=2,
        compression_type="lz4", reconnect_backoff_ms=20, retry_backoff_ms=20,
    )  # fmt: skip
    sent: list[tuple[bytes, Any]] = []
    producer.send(topic, b"first").get(SECONDS)
    print("producing", flush=True)
    while not stop.is_set():
        value = b"%d" % len(sent)
        sent.append((value, producer.send(topic, key=value, value=value)))
        if len(sent) % 50 == 0:
            time.sleep(0.005)
    producer.flush(SECONDS)
    for value, future in sent:
        place = future.get(SECONDS)
        print(place.partition, place.offset, value.decode())
    producer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
