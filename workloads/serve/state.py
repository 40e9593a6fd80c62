"""What the server was told to serve, on disk, so that a restart serves the same without asking anybody."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from specs.builds import BuildWord
from specs.digests import Digest, digest_of
from specs.errors import Stalled, Transient
from specs.records import ArtifactRecord
from specs.serving import ServerOptions
from workloads.serve.engine import Facts

log = logging.getLogger(__name__)

_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
ModelName = Annotated[str, StringConstraints(pattern=rf"^({_LABEL}\.)?{_LABEL}$", max_length=127)]
"""A model's name at the server: a DNS label, with a namespace and a dot before it unless that is ``default``."""


class Target(BaseModel):
    """One export of one release, as the controller asks for it."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    version: Annotated[int, Field(ge=1)]
    file: Digest
    run: Digest
    weights: Digest
    build: BuildWord = ""
    """What this server makes of the file, which is ONNX, for its own device; empty where it serves the file."""

    @property
    def engine(self) -> tuple[str, str]:
        """What is in memory when this serves: file and build."""
        return self.file, self.build


class Share(BaseModel):
    """How a canary takes part in live traffic; at step 0 it gets nothing."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    step: Annotated[int, Field(ge=0)] = 0
    weight: Annotated[int, Field(ge=0, le=100)] = 0
    """Per cent of the requests that it answers."""
    mirror: Annotated[int, Field(ge=0, le=100)] = 0
    """Per cent of the requests that what serves answers, of which it gets a copy."""


class Asked(Target):
    """A target as it is asked for: with what the server shall do beside answering."""

    options: dict[str, Any] | None = None
    """``ServerOptions`` of the model, whichever version answers; where they are not given, they stay as they are."""
    share: Share | None = None
    """It is to serve beside what serves now; None: it is to be all that serves."""

    @property
    def target(self) -> Target:
        """Give the target alone."""
        return Target(version=self.version, file=self.file, run=self.run, weights=self.weights, build=self.build)


class Saved(BaseModel):
    """A target that loaded and passed its self-tests."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    name: ModelName
    target: Target
    artifact: ArtifactRecord
    since: float = 0.0
    """Unix time since which this version serves here; a restart does not change it."""
    previous: list[Digest] = []
    """Files of the version before this one, which stay in the cache."""
    engine: Facts | None = None
    """What its engine said of itself, so that a server with a memory budget need not load it to know."""
    proof: dict[str, str] = {}
    """Records of the store by which it was proved that a trusted key signed it: key to text."""
    told: dict[str, Any] = Field(default_factory=lambda: ServerOptions().plain())
    """The options, word for word: their name is the teller's, also where this server does not know all of them."""

    canary: SavedCanary | None = None
    """What takes part in its traffic."""

    @property
    def options(self) -> ServerOptions:
        """What the server does beside answering; what it does not understand is no reason not to serve."""
        try:
            return ServerOptions.model_validate(self.told)
        except ValidationError as error:
            log.warning("options of %s are not understood, so that none are in force: %s", self.name, error)
            return ServerOptions()

    @property
    def options_digest(self) -> str:
        """The name of the options."""
        return digest_of(self.told)

    def digests(self) -> list[str]:
        """Give all files that serving needs."""
        tests = self.artifact.self_tests
        own = [self.target.file, *(blob for test in tests for blob in (test.image, test.input, test.outputs))]
        return own + (self.canary.saved.digests() if self.canary else [])


class SavedCanary(BaseModel):
    """A canary that loaded and passed its self-tests."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    saved: Saved
    """As it would be saved if it served alone; ``since`` is when it was loaded."""
    share: Share
    since: float
    """Unix time since which the share is in force; a restart does not change it."""
    tried: float = 0.0
    """Unix time of the last start with it; 0 before the first."""
    deaths: int = 0
    """How often in a row the server died soon after it had started with it."""


class State:
    """A directory: ``serving/<name>.json`` for each model, ``address.json`` while the server runs.

    Beside what serves stands what served before it, ``serving/<name>.before``: two slots, of which one always works.
    Whoever starts the server may keep files of its own beside them.
    """

    def __init__(self, root: Path) -> None:
        """Take the directory for this process; Stalled ``StateInUse`` where another server has it."""
        self._root = root
        self._models = root / "serving"
        self._models.mkdir(parents=True, exist_ok=True)
        self._lock = (self._models / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Stalled("StateInUse", f"another server uses {root}; give each its own --state") from error
        self._lives = self._models / ".lives"
        self.died = self._lives.exists()
        """Whether the server before this one did not end by itself."""
        self._lives.touch()

    def load(self) -> list[Saved]:
        """Give all models that served last, sorted by name; a file that cannot be read is reported and left alone."""
        saved: list[Saved] = []
        for path in sorted(self._models.glob("*.json")):
            try:
                saved.append(Saved.model_validate_json(path.read_bytes()))
            except (ValidationError, OSError) as error:
                log.warning("cannot restore a model from %s: %s", path, error)
        return saved

    def save(self, saved: Saved) -> None:
        """Write what serves, and what it replaces as the one before; Transient where the disk does not take it."""
        path = self._models / f"{saved.name}.json"
        old = _read(path)
        if old is not None and old.target.file != saved.target.file:
            alone = old.model_copy(update={"canary": None})
            self._write(path.with_suffix(_BEFORE), alone.model_dump_json(indent=2).encode())
        self._write(path, saved.model_dump_json(indent=2).encode())

    def before(self, name: str) -> Saved | None:
        """Give what served before what serves now; None where nothing did, or nobody can read it."""
        return _read(self._models / f"{name}.json", _BEFORE)

    def known(self, target: Target) -> Saved | None:
        """Give what is on disk about exactly this target, whether it serves or did before; None where nothing is."""
        paths = (*self._models.glob("*.json"), *self._models.glob(f"*{_BEFORE}"))
        return next((saved for path in paths if (saved := _read(path)) is not None and saved.target == target), None)

    def forget(self, name: str) -> None:
        """Drop a model; no-op where there is none. Transient where the disk does not let go of it."""
        path = self._models / f"{name}.json"
        try:
            path.unlink(missing_ok=True)
            path.with_suffix(_BEFORE).unlink(missing_ok=True)
        except OSError as error:
            raise Transient("StateUnavailable", f"cannot remove {path}: {error}") from error

    def announce(self, url: str, spoken: str = "") -> None:
        """Write ``address.json``: where this process answers, and as host and port where it speaks gRPC, if it does."""
        address = {"url": url, "pid": os.getpid()} | ({"grpc": spoken} if spoken else {})
        self._write(self._root / "address.json", json.dumps(address).encode())

    def retract(self) -> None:
        """Remove ``address.json``."""
        (self._root / "address.json").unlink(missing_ok=True)

    def close(self) -> None:
        """Let another server have the directory, and know that this one ended well."""
        self._lives.unlink(missing_ok=True)
        self._lock.close()

    def _write(self, path: Path, data: bytes) -> None:
        """Replace a file in one step: after a crash it is the old one or the new one."""
        partial = path.with_name(f".{path.name}.partial")
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            raise Transient("StateUnavailable", f"cannot write {path}: {error}") from error


_BEFORE = ".before"


def _read(path: Path, suffix: str = "") -> Saved | None:
    """Read what was saved; None where there is nothing, or nothing that can be read. Names may hold dots."""
    try:
        return Saved.model_validate_json((path.with_suffix(suffix) if suffix else path).read_bytes())
    except (ValidationError, OSError):
        return None
