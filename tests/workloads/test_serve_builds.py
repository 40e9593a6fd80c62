"""Engines that the server makes of a released ONNX file for its own device, by OpenVINO, which runs anywhere."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from adapters.store import Store
from specs.attestations import Attestation
from specs.builds import Build, build_word
from specs.digests import digest_bytes, hex_of
from specs.errors import Stalled, Transient
from tests.support import onnx_models
from tests.support.inference_server import INFER, REQUEST, ServerProcess, publish
from tests.support.onnx_models import Published
from workloads.serve.builds import Builds
from workloads.serve.cache import Cache
from workloads.serve.limits import Limits
from workloads.serve.loading import Proven, load

ROOT = Path(__file__).parents[2]
OPENVINO = Build("openvino")


class AwayStore(Store):
    """A store that nobody may write to, until it may."""

    away = True

    def create(self, key: str, data: bytes) -> bool:
        if self.away:
            raise Transient("StoreUnavailable", "read-only")
        return super().create(key, data)


class Bench:
    """A store and a server's disk, without the server."""

    def __init__(self, root: Path, kind: type[Store] = Store) -> None:
        self.root = root
        self.store = kind(f"file://{root / 'store'}")
        self.begin()

    def begin(self) -> None:
        """Do what a server does when it starts."""
        self.builds = Builds(self.root / "builds", self.store)
        self.cache = Cache(self.root / "cache", self.store, self.builds)

    def load(self, model: Published, build: Build = OPENVINO) -> Proven:
        """Load as a server does."""
        return load(model.artifact, self.cache, Limits(threads=1), build=build)

    def files(self) -> list[str]:
        """Give the names of what is kept."""
        return sorted(path.name for path in (self.root / "builds").iterdir())

    def engine(self) -> Path:
        """Give the one engine that is kept."""
        (path,) = (self.root / "builds").glob("[!.]*.engine")
        return path

    def attested(self) -> list[Attestation]:
        """Give what the store has been told."""
        return [Attestation.decode(self.store.read(key) or b"") for key in self.store.list("attestations/")]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give an empty one."""
    return Bench(tmp_path)


def small(store: Store, seed: int = 1) -> Published:
    """Put a model into the store that takes no time."""
    return onnx_models.publish(store, onnx_models.classifier(seed))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Give a server that the test starts itself."""
    server = ServerProcess(tmp_path)
    yield server
    server.close()


def test_answers_as_the_file_does(bench: Bench) -> None:
    """What was made answers as the ONNX file, and the store is told: of what, by what, where, how exact, how fast."""
    model = small(bench.store)
    proven = bench.load(model)
    tensor = np.random.default_rng(3).random((2, 3, 32, 32), np.float32)
    expected = onnx_models.run(onnx_models.classifier(1), tensor)["output0"]
    np.testing.assert_allclose(proven.engine.run({"images": tensor})["output0"], expected, rtol=1e-3, atol=1e-5)
    assert proven.engine.runtime.startswith("openvino")
    (told,) = bench.attested()
    assert told == proven.attestation
    assert (told.onnx, told.engine) == (model.file, digest_bytes(bench.engine().read_bytes()))
    assert (told.format, told.precision, list(told.versions)) == ("openvino", "fp32", ["openvino"])
    assert told.device["cpu"]
    assert 0 <= told.parity["difference"] <= told.parity["tolerance"] == 1e-3
    assert told.parity["tests"] == 1
    assert 0 < told.latency["latency/p50_ms"] <= told.latency["latency/p99_ms"]


def test_made_once(bench: Bench) -> None:
    """It is made once: another load, also after a restart and without store or ONNX file, takes what is there."""
    model = small(bench.store)
    bench.load(model)
    before = bench.engine().stat().st_mtime_ns, bench.files()
    (bench.root / "store/blobs/sha256" / hex_of(model.file)).unlink()
    (bench.root / "cache" / hex_of(model.file)).unlink()
    bench.begin()
    assert bench.load(model).attestation is not None
    assert (bench.engine().stat().st_mtime_ns, bench.files()) == before


def damage(path: Path) -> None:
    """Change a byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [damage, Path.unlink, lambda path: path.with_suffix(".json").unlink(),
                                  lambda path: path.with_suffix(".json").write_text("{}")],
                         ids=["damaged", "engine-lost", "note-lost", "note-empty"])  # fmt: skip
def test_what_is_not_what_was_made_is_made_again(bench: Bench, harm: Any) -> None:
    """Bytes that are not those that were noted are never loaded, and what is missing is made again."""
    model = small(bench.store)
    bench.load(model)
    harm(bench.engine())
    bench.begin()
    again = bench.load(model)
    assert again.attestation is not None
    assert again.attestation.engine == digest_bytes(bench.engine().read_bytes())


def test_noted_but_no_engine(bench: Bench) -> None:
    """What was noted faithfully but does not load, as after a change of the runtime, is made again: no crash."""
    model = small(bench.store)
    bench.load(model)
    path = bench.engine()
    path.write_bytes(b"of another time")
    note = json.loads(path.with_suffix(".json").read_text()) | {"engine": digest_bytes(b"of another time")}
    path.with_suffix(".json").write_text(json.dumps(note))
    assert bench.load(model).attestation is not None
    assert bench.engine().read_bytes() != b"of another time"


def test_other_versions_made_it(bench: Bench) -> None:
    """An engine that other versions made lies under another name: it is made anew, and the old one goes."""
    model = small(bench.store)
    bench.load(model)
    old = bench.engine()
    for path in (old, old.with_suffix(".json")):
        path.rename(path.with_stem("0" * 64))
    bench.load(model)
    assert bench.engine().stem == old.stem
    assert len(bench.files()) == 2


def test_leftovers_go(bench: Bench) -> None:
    """What a killed server left half-written goes at the next start, what nobody needs any more when files do."""
    model, other = small(bench.store, 1), small(bench.store, 2)
    bench.load(model)
    bench.load(other)
    (bench.root / "builds/.0123").write_bytes(b"half")
    (bench.root / f"builds/{'0' * 64}.engine").write_bytes(b"never noted")
    bench.begin()
    assert len(bench.files()) == 4
    bench.cache.prune([other.file])
    (note,) = (bench.root / "builds").glob("*.json")
    assert json.loads(note.read_text())["onnx"] == other.file


def test_a_store_that_cannot_be_told(tmp_path: Path) -> None:
    """A store that takes nothing keeps nothing from serving; it is told later, also by a later server."""
    bench = Bench(tmp_path, AwayStore)
    AwayStore.away = False
    model = small(bench.store)
    AwayStore.away = True
    attestation = bench.load(model).attestation
    assert attestation is not None
    assert bench.builds.untold() == {attestation.engine}
    bench.begin()
    assert not bench.builds.tell()
    AwayStore.away = False
    assert bench.builds.tell()
    assert bench.attested() == [attestation]
    assert bench.builds.untold() == set()


def test_one_build_for_many(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Four that need the same engine at once have it made once."""
    caplog.set_level("INFO")
    model, found = small(bench.store), list[Proven]()
    threads = [threading.Thread(target=lambda: found.append(bench.load(model))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({proven.attestation.engine for proven in found if proven.attestation}) == 1
    assert len([record for record in caplog.records if record.message.startswith("making openvino")]) == 1


def test_half_precision(bench: Bench) -> None:
    """With half precision answers may be further from the recorded ones, and it is another engine."""
    model = small(bench.store)
    bench.load(model)
    proven = bench.load(model, Build("openvino", "fp16"))
    assert proven.attestation is not None
    assert (proven.attestation.precision, proven.attestation.parity["tolerance"]) == ("fp16", 0.02)
    assert len(bench.files()) == 4


def test_answers_that_are_too_far_off(bench: Bench) -> None:
    """An engine that answers otherwise than the released file did is not served."""
    wrong = {"output0": np.full((1, 10), 0.1, np.float32)}
    model = onnx_models.publish(bench.store, onnx_models.classifier(), answers=wrong)
    with pytest.raises(Stalled) as caught:
        bench.load(model)
    assert caught.value.reason == "SelfTestFailed"
    assert bench.attested() == []


def test_what_no_engine_can_be_made_of(bench: Bench) -> None:
    """A graph that the runtime cannot read, and a file that is no ONNX, are verdicts."""
    broken = onnx_models.publish(bench.store, onnx_models.classifier())
    broken = Published(bench.store.put_blob(b"no graph"), broken.weights, broken.run, broken.artifact)
    artifact = broken.artifact.model_copy(update={"file": broken.file})
    other = artifact.model_copy(update={"format": "openvino"})
    for changed, said in ((artifact, "cannot convert"), (other, "of onnx")):
        with pytest.raises(Stalled, match=said) as caught:
            load(changed, bench.cache, Limits(), build=OPENVINO)
        assert caught.value.reason == "BuildFailed"
    assert bench.files() == []


def test_a_runtime_that_is_not_here(bench: Bench) -> None:
    """What needs a runtime that is not installed says which one, and what this server runs."""
    with pytest.raises(Stalled, match=r"engine needs tensorrt, which is not installed here") as caught:
        bench.load(small(bench.store), Build("engine"))
    assert caught.value.reason == "LoadFailed"


KILLED = """
import sys
from pathlib import Path
from tests.support.living import die_at_line
from tests.workloads.test_serve_builds import Bench, small

bench = Bench(Path(sys.argv[1]))
model, line, deaths = small(bench.store), 1, 0

def act():
    bench.begin()
    assert bench.load(model).attestation is not None

while die_at_line(line, act, of="workloads/serve/builds.py"):
    line, deaths = line + 9, deaths + 1
print(deaths, bench.files())
"""


def test_killed_at_any_line(tmp_path: Path) -> None:
    """A server that dies anywhere while it makes an engine has one in the end, attested, and nothing half-written."""
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    deaths, _, files = said.partition(" ")
    assert int(deaths) >= 5, said
    assert len(files.split(",")) == 2, said
    bench = Bench(tmp_path)
    assert {each.engine for each in bench.attested()} >= {digest_bytes(bench.engine().read_bytes())}


def test_served_from_start_to_restart(server: ServerProcess) -> None:
    """Asked for with a load it is made and told of; after a kill it serves again, without the store."""
    server.start()
    model = publish(server, 1)
    assert server.load("digits", model.target()).status_code == 200
    before = server.http.post(INFER, json=REQUEST).json()["outputs"][0]["data"]
    assert server.load("digits", model.target() | {"build": "tflite"}).status_code == 400
    assert server.load("digits", model.target() | {"build": "openvino"}).status_code == 200
    entry = server.models()["digits"]
    assert (entry["build"], entry["engine"]["onnx"]) == ("openvino", model.file)
    assert entry["runtime"].startswith("openvino")
    described = server.http.get("/v2/models/digits").json()
    assert (described["platform"], described["parameters"]["build"]) == ("openvino", "openvino")
    np.testing.assert_allclose(server.http.post(INFER, json=REQUEST).json()["outputs"][0]["data"], before, atol=1e-5)
    server.end(signal.SIGKILL)
    server.store_path.rename(server.store_path.with_name("away"))
    server.start()
    assert server.models()["digits"]["engine"] == entry["engine"]
    server.store_path.with_name("away").rename(server.store_path)
    refused: httpx.Response = server.load("digits", model.target(2) | {"build": "engine"})
    assert (refused.status_code, refused.json()["reason"]) == (422, "LoadFailed")
    entry = server.models()["digits"]
    assert (entry["failed_file"], entry["failed_build"], entry["version"]) == (model.file, "engine", 1)


def test_serving_onnx_loads_no_other_runtime(tmp_path: Path) -> None:
    """A server of ONNX files imports neither OpenVINO nor TensorRT, nor torch."""
    program = (
        "import sys; from pathlib import Path; from workloads.serve import app, __main__;"
        "from tests.workloads.test_serve_builds import Bench, small, load, Limits; bench = Bench(Path(sys.argv[1]));"
        "load(small(bench.store).artifact, bench.cache, Limits());"
        "print(*({'openvino', 'tensorrt', 'torch', 'ultralytics', 'onnxruntime'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert said.split() == ["onnxruntime"]


@pytest.mark.parametrize(
    ("format_", "args", "word"),
    [
        ("openvino", {}, "openvino"), ("engine", {"quantize": 16}, "engine:fp16"),
        ("engine", {"quantize": "fp16"}, "engine:fp16"), ("engine", {"half": True}, "engine:fp16"),
        ("openvino", {"dynamic": True, "quantize": 32}, "openvino"),
    ],
)  # fmt: skip
def test_the_word_for_what_is_made(format_: str, args: dict[str, Any], word: str) -> None:
    """The export's format and arguments become one word, which reads back as what it was; others are refused."""
    assert build_word(format_, args) == word
    assert Build.parse(word) == Build(format_, "fp16" if ":" in word else "fp32")
    assert Build.parse("") is None
    with pytest.raises(ValueError, match="is not openvino or engine"):
        Build.parse("engine:int8")
