"""The Ultralytics Platform, as far as its data sets go: a real HTTP server with state, after its OpenAPI description.

It has keys, data sets, immutable versions with content hashes (opaque, as there), exports as NDJSON behind signed URLs,
quotas and bad days. What it cannot show is what the description does not say: how hashes are computed.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "ul_" + "5ec2e7" * 7
SIGNATURE = "hush-signature"
WHEN = "2026-01-15T10:00:00.000Z"


@dataclass
class Image:
    """One picture of a data set. ``rows`` are its annotations, numbers as in a label file."""

    name: str
    data: bytes
    rows: list[Any]
    split: str = "train"

    @property
    def stored(self) -> str:
        """Name by content, as the Platform stores it."""
        return f"{hashlib.md5(self.data).hexdigest()}.{self.name.rpartition('.')[2]}"


@dataclass
class Dataset:
    """A data set and its versions, each as it was when it was saved."""

    task: str
    classes: list[str]
    images: list[Image] = field(default_factory=list)
    shape: list[int] | None = None
    versions: list[dict[str, Any]] = field(default_factory=list)
    saved: list[list[dict[str, Any]]] = field(default_factory=list)
    kept: dict[str, bytes] = field(default_factory=dict)
    """What versions are made of, which stays although pictures are removed."""
    hashed: bool = True

    def save(self) -> int:
        """Save a version, or find the one with this content; gives its number."""
        records = [self._record(image) for image in self.images]
        digest = hashlib.blake2b(json.dumps([self.classes, records]).encode(), digest_size=16).hexdigest()
        for number, records_before in enumerate(self.saved, start=1):
            if records_before == records:
                return number
        self.kept |= {image.stored: image.data for image in self.images}
        splits = {split: sum(image.split == split for image in self.images) for split in ("train", "val", "test")}
        rows = sum(len(image.rows) for image in self.images)
        self.saved.append(records)
        self.versions.append({
            "version": len(self.saved), "imageCount": len(records), "classCount": len(self.classes),
            "annotationCount": rows, "splits": {**splits, "labeled": sum(bool(image.rows) for image in self.images)},
            "createdAt": WHEN, **({"contentHash": digest} if self.hashed else {}),
        })  # fmt: skip
        return len(self.saved)

    def _record(self, image: Image) -> dict[str, Any]:
        kind = {"detect": "boxes", "segment": "segments", "classify": "classification"}.get(self.task, self.task)
        shown = {"annotations": {kind: image.rows}} if image.rows else {}
        return {
            "type": "image", "file": image.name, "stored": image.stored, "width": 32, "height": 32,
            "split": image.split, **shown,
        }  # fmt: skip


@dataclass
class PlatformServer:
    """What there is, and what was asked. ``faults`` are met by one request to the API each, in order.

    A fault is ``CODE`` or ``CODE:SECONDS`` (with Retry-After), ``drop``, ``nonsense``, or ``hold`` (until ``go``).
    """

    url: str = ""
    key: str = KEY
    datasets: dict[str, Dataset] = field(default_factory=dict)
    """``owner/name``."""
    stored: dict[str, bytes] = field(default_factory=dict)
    """Bytes that storage gives instead of the right ones."""
    faults: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Paths of all requests, without queries."""
    leaked: list[str] = field(default_factory=list)
    """Requests to storage that came with a key."""
    after_export: list[Any] = field(default_factory=list)
    """Called once after an export was asked for: what happens on the Platform while a job reads."""
    go: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)

    def counted(self, part: str) -> int:
        """Give how many requests had this in their path."""
        return sum(part in path for path in self.asked)


@contextmanager
def platform_server() -> Iterator[PlatformServer]:
    """Serve on a free port of this machine."""
    told = PlatformServer()

    class Handler(_Handler):
        platform = told

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients give up in these tests; nobody needs to read about it."""

    with Server(("127.0.0.1", 0), Handler) as server:
        told.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield told
        finally:
            told.go.set()
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    platform: PlatformServer

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.platform.asked.append(parts.path)
        if parts.path.startswith("/storage/"):
            self._storage(parts.path, parse_qs(parts.query))
        elif self._welcome():
            self._api(parts.path.split("/")[2:], parse_qs(parts.query))

    def do_POST(self) -> None:
        parts = urlsplit(self.path).path.split("/")[2:]
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._welcome() and (dataset := self._dataset(parts)):
            before = len(dataset.saved)
            number = dataset.save()
            self._say(200, {"version": number, "reused": len(dataset.saved) == before})

    def _welcome(self) -> bool:
        fault, _, wait = (self.platform.faults.pop(0) if self.platform.faults else "").partition(":")
        if fault == "drop":
            self.close_connection = True
            self.connection.close()
        elif fault == "hold":
            self.platform.reached.set()
            self.platform.go.wait(60)
            return True
        elif fault == "nonsense":
            self._send(200, b"<html>", "text/html")
        elif fault:
            key = self.headers.get("Authorization", "")
            self._say(int(fault), {"error": f"Not now, {key}"}, {"Retry-After": wait} if wait else {})
        elif self.headers.get("Authorization") != f"Bearer {self.platform.key}":
            self._say(401, {"error": "Invalid API key"})
        else:
            return True
        return False

    def _dataset(self, parts: list[str]) -> Dataset | None:
        found = self.platform.datasets.get("/".join(parts[1:3]))
        if found is None or parts[0] != "datasets":
            self._say(404, {"error": "Dataset not found"})
        return found

    def _api(self, parts: list[str], query: dict[str, list[str]]) -> None:
        dataset = self._dataset(parts)
        if dataset is None:
            return
        if parts[3:] == ["export"]:
            number = int(query.get("v", ["0"])[0])
            if not 0 < number <= len(dataset.saved):
                self._say(404, {"error": "Version not found"})
                return
            place = f"{self.platform.url}/storage/{parts[1]}/{parts[2]}/v{number}.ndjson?signature={SIGNATURE}"
            self._say(200, {"downloadUrl": place, "version": number})
            if self.platform.after_export:
                self.platform.after_export.pop(0)()
        else:
            self._say(200, {"dataset": self._detail(parts[1], parts[2], dataset)})

    def _detail(self, owner: str, name: str, dataset: Dataset) -> dict[str, Any]:
        splits = {split: sum(image.split == split for image in dataset.images) for split in ("train", "val", "test")}
        return {
            "id": "65f0c0ffee65f0c0ffee0001", "owner": owner, "dataset": name, "name": name.title(),
            "visibility": "private", "task": dataset.task, "imageCount": len(dataset.images),
            "classCount": len(dataset.classes), "classNames": dataset.classes, "starCount": 0, "isStarred": False,
            "splits": {**splits, "labeled": sum(bool(image.rows) for image in dataset.images)}, "status": "ready",
            "versions": dataset.versions, "createdAt": WHEN, "updatedAt": WHEN, "metadata": {},
        }  # fmt: skip

    def _storage(self, path: str, query: dict[str, list[str]]) -> None:
        """Give what signed URLs lead to; keys of the API have no business here."""
        if "Authorization" in self.headers:
            self.platform.leaked.append(path)
        _, _, owner, name, last = path.split("/")
        dataset = self.platform.datasets[f"{owner}/{name}"]
        if query.get("signature") != [SIGNATURE]:
            self._send(403, b"", "text/plain")
        elif path in self.platform.stored:
            self._send(200, self.platform.stored[path], "application/octet-stream")
        elif last.endswith(".ndjson"):
            self._send(200, self.ndjson(owner, name, int(last[1:-7])), "application/x-ndjson")
        else:
            found = dataset.kept.get(last)
            self._send(200 if found else 404, found or b"", "image/png")

    def ndjson(self, owner: str, name: str, number: int) -> bytes:
        dataset = self.platform.datasets[f"{owner}/{name}"]
        header = {
            "type": "dataset", "task": dataset.task, "name": name, "url": f"{self.platform.url}/{owner}/datasets",
            "class_names": {str(index): each for index, each in enumerate(dataset.classes)}, "version": number,
            "created_at": WHEN, "updated_at": WHEN, **({"kpt_shape": dataset.shape} if dataset.shape else {}),
        }  # fmt: skip
        lines = [header]
        for record in dataset.saved[number - 1]:
            place = f"{self.platform.url}/storage/{owner}/{name}/{record['stored']}?signature={SIGNATURE}"
            lines.append({key: value for key, value in record.items() if key != "stored"} | {"url": place})
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    def _say(self, status: int, answer: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(answer).encode(), "application/json", headers)

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
