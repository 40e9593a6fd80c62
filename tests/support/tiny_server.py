"""A model server without models: same command line and same API as the real one, standard library only.

What a load does hangs on the digest it asks for: ``sha256:bad…`` is refused, ``sha256:dead…`` kills the server,
``sha256:510…`` takes a second, ``sha256:busy…`` is not now. TINY=mute never answers, TINY=broken ends at once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_ACTION = re.compile(r"/v2/repository/models/([a-z0-9.-]+)/(load|unload)")


ONE_AT_A_TIME = threading.Lock()
"""Held by whoever changes what serves."""


class Handler(BaseHTTPRequestHandler):
    """Answers the control plane; models live in ``models.json`` of the state folder."""

    state: Path

    def do_GET(self) -> None:
        """Say what serves."""
        if self.path == "/v2/health/live":
            self._answer(200, {})
        elif self.path == "/trunkline/models":
            self._answer(200, {"models": self._models()})
        elif self.path == "/environment":
            self._answer(200, dict(os.environ))
        else:
            self._answer(404, {"error": "no such page"})

    def do_POST(self) -> None:
        with ONE_AT_A_TIME:
            self._post()

    def _post(self) -> None:
        """Load or unload."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        match = _ACTION.fullmatch(self.path)
        assert match is not None
        models = self._models()
        if match[2] == "unload":
            models.pop(match[1], None)
            self._keep(models)
            return self._answer(200, {})
        return self._load(match[1], models, body["parameters"])

    def _load(self, name: str, models: dict[str, Any], wanted: dict[str, Any]) -> None:
        with (self.state / "loads").open("a") as loads:
            loads.write(f"{wanted['file']}\n")
        kind = wanted["file"].removeprefix("sha256:")
        if kind.startswith("dead"):
            os._exit(3)
        if kind.startswith("busy"):
            return self._answer(503, {"error": "another load is running"})
        if kind.startswith("510"):
            time.sleep(1)
        if kind.startswith("bad"):
            failure = {"failed_file": wanted["file"], "failure": "self-test failed"}
            known = models.get(name, {"version": None, "file": None, "ready": False, "canary": None})
            self._keep(models | {name: known | failure})
            return self._answer(422, {"error": "self-test failed", "reason": "SelfTestFailed"})
        share, options = wanted.pop("share", None), {"options": _digest(wanted.pop("options"))}
        well = options | {"ready": True, "failed_file": None, "failure": "", "canary": None}
        known = models.get(name, {})
        if share is None or not known.get("ready") or known["file"] == wanted["file"]:
            entry = wanted | well
        else:
            entry = known | well | {"canary": wanted | {"share": share, "ready": True, "since": time.time()}}
        self._keep(models | {name: entry})
        return self._answer(200, {})

    def _models(self) -> dict[str, Any]:
        path = self.state / "models.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def _keep(self, models: dict[str, Any]) -> None:
        fresh = self.state / "models.new"
        fresh.write_text(json.dumps(models))
        fresh.replace(self.state / "models.json")

    def _answer(self, status: int, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


def _digest(options: dict[str, Any]) -> str:
    """Name options as ``specs.digests`` does, as far as the options of tests need it: 1.0 is 1."""
    plain = {name: int(value) if isinstance(value, float) else value for name, value in options.items()}
    return "sha256:" + hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int)
    asked = parser.parse_args()
    if os.environ.get("TINY") == "broken":
        sys.exit("no such device")
    if os.environ.get("TINY") == "mute":
        time.sleep(60)
    Handler.state = asked.state
    server = ThreadingHTTPServer((asked.host, asked.port), Handler)
    address = {"url": f"http://{asked.host}:{server.server_address[1]}", "pid": os.getpid()}
    fresh = asked.state / "address.new"
    fresh.write_text(json.dumps(address))
    fresh.replace(asked.state / "address.json")

    def stop(*_: object) -> None:
        (asked.state / "address.json").unlink()
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    server.serve_forever()


main()
