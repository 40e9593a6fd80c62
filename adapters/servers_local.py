"""Serving on this machine: one server process for all models of an agent, which outlives it and is adopted again.

::

    <state>/server/lock             held by the server while it lives; holds its group's number
                  /address.json     {"url", "pid", "grpc"}, written by the server when it answers
                  /port             the port it had before; it gets the same one again
                  /models/<name>    what each model was asked for last, see server_notes
                  /log.txt, exit    what it said, and how it ended
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adapters import processes
from adapters.logs import last_words
from adapters.server_api import ServerApi, canary_of, serves, unavailable
from adapters.server_notes import Note
from specs.errors import Transient
from specs.serving_facts import Rejected, ServingState, ServingTarget

_LOG_LIMIT = 5_000_000


@dataclass(frozen=True)
class Patience:
    """How long to wait for the server, in seconds."""

    start: float = 30
    """Until it answers for the first time, its models loaded."""
    request: float = 10
    load: float = 120
    restart: float = 2
    """Between two starts, so that a server that keeps dying does not eat the machine."""


class LocalServers:
    """Serves releases by one process ``<command> --store URL --state DIR --host H --port P``.

    The server keeps what it serves: started again after its death, it loads its last good models itself. A model
    that cannot be loaded leaves the one before it serving. Whatever must be awaited is Transient ``ServerUnavailable``;
    a port that another program has is Transient ``PortTaken``.
    """

    def __init__(
        self, state: Path, store_url: str, *, command: Sequence[str], host: str = "127.0.0.1", port: int = 0,
        environment: Mapping[str, str] | None = None, patience: Patience | None = None, grpc_port: int | None = None,
    ) -> None:  # fmt: skip
        """``grpc_port`` is where the server speaks gRPC, too: 0 for any free one, None for nowhere."""
        self._folder = state.absolute() / "server"
        self._lock = self._folder / "lock"
        self._models = self._folder / "models"
        self._command = (*command, "--store", store_url, "--state", str(self._folder), "--host", host)
        self._command += ("--grpc-port", str(grpc_port)) if grpc_port is not None else ()
        self._host = host
        self._port = port
        self._environment = dict(environment or {})
        self._patience = patience or Patience()
        self._api = ServerApi(request=self._patience.request, load=self._patience.load)

    def state(self, name: str) -> ServingState | None:
        """Give what serves under that name, or None where nothing does; starts a dead server again that had models."""
        with processes.disk_trouble_is_transient(self._folder):
            processes.checked_name(name)
            return self._state(self._revived(), name)

    def names(self) -> Sequence[str]:
        """Give the models that serve or should, sorted; starts a dead server again that had models."""
        with processes.disk_trouble_is_transient(self._folder):
            url = self._revived()
            return sorted({*self._api.models(url), *self._asked_for()}) if url else ()

    def roll_out(self, target: ServingTarget, rejected: Rejected | None = None) -> ServingState:
        """Load a target, and wait until it serves or has failed; what served before goes on until it does.

        With a share it is loaded beside what serves, or takes another share where it is there. No-op where all is as
        asked for already. A target that kills the server twice while it loads has failed. What is ``rejected`` is
        remembered until another target is asked for.
        """
        with processes.disk_trouble_is_transient(self._folder):
            known = Note.read(self._models / processes.checked_name(target.name))
            note = known.about(target, rejected)
            url = self.ensure()
            now = self._api.models(url).get(target.name, {})
            if target.share is not None and now and "canary" not in now:
                raise unavailable("is an older one that knows no canaries: end it by trunkline down, a new one starts")
            if serves(now, target) and note.rejected == known.rejected:
                return self._serving(url, target.name, now)
            note.write()  # before the effect: from here on a dead server is started again, whoever looks
            if serves(now, target):
                return self._serving(url, target.name, now)
            failure = note.failure or self._load(url, target, note)
            state = self._state(self.ensure(), target.name) or ServingState(target.name, ready=False)
            return replace(state, failed_file=target.file, failure=failure) if failure else state

    def withdraw(self, name: str) -> None:
        """Stop serving a model; no-op where it does not serve.

        A dead server is started for this: it remembers the model, and would bring it back some day.
        """
        with processes.disk_trouble_is_transient(self._folder):
            note = self._models / processes.checked_name(name)
            if note.exists() or processes.held(self._lock):
                self._api.unload(self.ensure(), name)
                note.unlink(missing_ok=True)

    def ensure(self) -> str:
        """Give the URL of a server that answers; starts one where none lives, and waits for it a while."""
        with processes.disk_trouble_is_transient(self._folder):
            give_up = time.monotonic() + self._patience.start
            started = False
            while True:
                if not processes.held(self._lock):
                    if started:
                        raise self._silent("ended as soon as it was started")
                    started = self._start()
                with suppress(Transient):
                    return self._live()
                if time.monotonic() > give_up:
                    raise self._silent(f"does not answer {self._patience.start:g} s after its start")
                time.sleep(0.05)

    def url(self) -> str | None:
        """Give the URL of the server, or None where none answers. Starts nothing."""
        with processes.disk_trouble_is_transient(self._folder), suppress(Transient):
            return self._live() if processes.held(self._lock) else None
        return None

    def stop(self, grace: float = 10) -> None:
        """Stop the server, with ``grace`` seconds between asking and killing; what it served is remembered."""
        with processes.disk_trouble_is_transient(self._folder):
            processes.terminate([self._lock], grace)

    def _start(self) -> bool:
        """Start the server; False where somebody else does, or it died so soon before that it must wait."""
        with processes.locked(self._lock) as descriptor:
            age = time.time() - processes.modified(self._folder / "pid")
            if descriptor is None or 0 <= age < self._patience.restart:
                return False
            kept = processes.read_text(self._folder / "port").strip()
            port = self._port or (int(kept) if kept.isdecimal() else 0)
            if port and not _is_free(self._host, port):
                way_out = "give another port" if self._port else f"remove {self._folder / 'port'} to get another one"
                problem = f"port {port} of {self._host} belongs to another program"
                raise Transient("PortTaken", f"{problem}: end it, or {way_out}")
            for stale in ("address.json", "exit"):
                (self._folder / stale).unlink(missing_ok=True)
            log = self._folder / "log.txt"
            if log.exists() and log.stat().st_size > _LOG_LIMIT:
                log.replace(self._folder / "log.old")
            processes.spawn(
                [*self._command, "--port", str(port)], folder=self._folder, lock=self._lock,
                descriptors=[descriptor], environment=processes.child_environment(self._environment),
            )  # fmt: skip
            return True

    def _revived(self) -> str:
        """Give the URL of the living server, empty where none lives and none should; else start it and say wait."""
        if processes.held(self._lock):
            return self._address()
        if not self._asked_for():
            return ""
        self._start()
        raise self._silent("is being started again")

    def _asked_for(self) -> list[str]:
        return [note.name for note in self._models.glob("[!.]*")]

    def _address(self) -> str:
        """Give the URL that the server wrote; whoever learns it also keeps its port for the next start."""
        try:
            url = str(json.loads(processes.read_text(self._folder / "address.json"))["url"]).rstrip("/")
            port = str(urlsplit(url).port or "")
        except (ValueError, LookupError, TypeError) as error:
            raise self._silent("has not said yet where it listens") from error
        if processes.read_text(self._folder / "port") != port:
            processes.write_text(self._folder / "port", port)
        return url

    def _live(self) -> str:
        url = self._address()
        self._api.check_alive(url)
        return url

    def _load(self, url: str, target: ServingTarget, note: Note) -> str:
        """Ask for a target and wait; gives why it failed, empty where it serves."""
        try:
            failure = self._api.load(url, target)
        except Transient:
            # If the answer is lost but the server lives, the next look tells; if it died of this file, remember that.
            if self._outlived_silence():
                raise
            note = replace(note, deaths=note.deaths + 1)
            note.write()
            if not note.failure:
                raise
            return note.failure
        if note.deaths and not failure:
            replace(note, deaths=0).write()
        return failure

    def _outlived_silence(self) -> bool:
        """Whether the server lives, after it broke off a talk; a dying one gets time to be gone."""
        give_up = time.monotonic() + 3
        while processes.held(self._lock):
            with suppress(Transient):
                self._live()
                return True
            if time.monotonic() > give_up:
                return True
            time.sleep(0.05)
        return False

    def _state(self, url: str, name: str) -> ServingState | None:
        entry = self._api.models(url).get(name) if url else None
        note = Note.read(self._models / name)
        if entry is None and not note.failure and note.rejected is None:
            return None
        return self._serving(url, name, entry or {})

    def _serving(self, url: str, name: str, entry: Mapping[str, Any]) -> ServingState:
        state = ServingState(
            name, bool(entry.get("ready")), entry.get("version"), entry.get("file"), f"{url}/v2/models/{name}",
            entry.get("failed_file"), str(entry.get("failure") or ""), options=entry.get("options"),
            self_test=str(entry.get("self_test") or ""), canary=canary_of(entry),
            build=entry.get("build"), failed_build=entry.get("failed_build"),
        )  # fmt: skip
        note = Note.read(self._models / name)
        state = replace(state, rejected=note.rejected)
        if not note.failure:
            return state
        return replace(state, failed_file=note.file, failed_build=note.build, failure=note.failure)

    def _silent(self, what: str) -> Transient:
        said = last_words(self._folder / "log.txt", processes.child_environment(self._environment), limit=300)
        return unavailable(f"{what}; its last words: {said}" if said else what)


def _is_free(host: str, port: int) -> bool:
    """Whether a server can listen there. A dying one drops its lock a moment before its port: give it that moment."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(20):
        with suppress(OSError):
            socket.create_server((host, port), family=family).close()
            return True
        time.sleep(0.05)
    return False
