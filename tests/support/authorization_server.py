"""An authorization server in a process of its own, with keys of its own.

`python -m tests.support.authorization_server` prints its address. GET /keys is its JWK Set, POST /token signs
the claims that it is sent, POST /how says how it answers for its keys.
"""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

KEYS: dict[str, ec.EllipticCurvePrivateKey] = {}
HOW: dict[str, Any] = {"status": 200, "seconds": 0.0, "published": ""}
"""How it answers for its keys. `published`: ids of the keys that it shows, with spaces between them."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        time.sleep(float(HOW["seconds"]))
        if HOW["status"] == 302:
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        shown = str(HOW["published"]).split()
        keys = [public(name, key) for name, key in KEYS.items() if name in shown]
        self.answer(int(HOW["status"]), {"keys": keys})

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/how":
            HOW.update(sent)
            return self.answer(200, HOW)
        kid = sent["kid"]
        key = KEYS.setdefault(kid, ec.generate_private_key(ec.SECP256R1()))
        headers = {"typ": "at+jwt", "kid": kid}
        return self.answer(200, {"access_token": jwt.encode(sent["claims"], key, "ES256", headers)})

    def answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def public(kid: str, key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    made = jwt.get_algorithm_by_name("ES256").to_jwk(key.public_key(), as_dict=True)
    return {**made, "kid": kid, "alg": "ES256", "use": "sig"}


def main() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
