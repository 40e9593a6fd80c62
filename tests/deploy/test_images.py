"""Dockerfiles: linted, and what they copy is enough to run. No image is built: there is nothing to build it with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.manifests import DEPLOY, ROOT, program

IMAGES = DEPLOY / "images"
FILES = sorted(IMAGES.glob("*.Dockerfile"))
LOCKS = {"train": IMAGES / "train.lock", "serve": IMAGES / "serve.lock"}
RUNS = [
    ("controller", ["kopf", "run", "--module", "controller.operator", "--help"], "Start an operator"),
    ("controller", ["-c", "import controller.operator, controller.cluster"], ""),
    ("controller", ["-m", "controller.cli", "--help"], "Usage"),
    ("workloads", ["-m", "workloads", "--help"], "--store"),
    ("workloads", ["-m", "workloads.serve", "--help"], "--store"),
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_hadolint_has_nothing_to_say(file: Path) -> None:
    """Linted with every rule; what is waived is waived in the file, with its reason."""
    hadolint = program("hadolint", "the Dockerfiles were not linted", demanded=True)
    done = subprocess.run([hadolint, "--no-color", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_base_is_pinned_and_nobody_is_root(file: Path) -> None:
    """One base with an exact version; every stage that ships ends as 65532."""
    text = file.read_text()
    (base,) = re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", base)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE)) | {"${BASE}"}
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) <= stages
    begun = [stage for stage in re.split(r"(?m)^(?=FROM )", text) if stage.startswith("FROM ")]
    shipped = [stage for stage in begun if "\nCMD " in stage]
    assert shipped
    for stage in shipped:  # and nothing is done after it but to say what runs
        assert re.findall(r"^USER (\S+)\n(?:CMD .*\n?)\s*\Z", stage, re.MULTILINE) == ["65532:65532"]
    assert set(re.findall(r"^USER (\S+)$", text, re.MULTILINE)) == {"65532:65532"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_packages_come_with_hashes_and_without_a_cache(file: Path) -> None:
    """Pip installs nothing that the lock does not name by hash, builds nothing, keeps nothing."""
    installs = re.findall(r"pip install(.*?)\n(?!    )", file.read_text().replace("\\\n", ""), re.DOTALL)
    assert installs
    for words in installs:
        assert {"--require-hashes", "--no-cache-dir", "--no-deps", "--only-binary"} <= set(words.split())


def copies(file: Path) -> list[tuple[list[str], str]]:
    """Give sources and target of every COPY from the repository."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", file.read_text(), re.MULTILINE)
    return [(words[:-1], words[-1]) for words in map(str.split, lines)]


def test_what_is_copied_exists_and_is_let_through() -> None:
    """Every source of a COPY is in the repository, and the ignore file beside the Dockerfile does not hide it."""
    for file in FILES:
        seen = [
            line[1:] for line in file.with_name(f"{file.name}.dockerignore").read_text().splitlines() if line[:1] == "!"
        ]
        for sources, _ in copies(file):
            for source in sources:
                assert (ROOT / source).exists(), source
                assert any(Path(source).match(name) or Path(name) in Path(source).parents for name in seen), source


@pytest.mark.parametrize(("image", "command", "says"), [pytest.param(*row, id=" ".join(row[1][-3:])) for row in RUNS])
def test_what_is_copied_is_enough(tmp_path: Path, image: str, command: list[str], says: str) -> None:
    """With only what the image has of this repository, its programs start."""
    for sources, target in copies(IMAGES / f"{image}.Dockerfile"):
        if target.startswith("/opt/trunkline/app/"):
            for source in sources:
                _copy(ROOT / source, tmp_path / target.removeprefix("/opt/trunkline/app/"), whole=len(sources) == 1)
    program_, *rest = command
    start = (
        [str(Path(sys.executable).parent / "kopf"), *rest] if program_ == "kopf" else [sys.executable, "-P", *command]
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    check = "import controller" if image == "controller" else "import workloads"
    where = subprocess.run([sys.executable, "-P", "-c", f"{check} as it; print(it.__file__)"], cwd=tmp_path,
                           env=environment, capture_output=True, text=True, check=True)  # fmt: skip
    assert where.stdout.startswith(str(tmp_path)), "the copy did not come first"
    done = subprocess.run(start, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout


def _copy(source: Path, target: Path, *, whole: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        place = target if whole and not str(target).endswith("/") else target / source.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)


def test_workloads_have_every_adapter_that_they_load() -> None:
    """What a job loads only once it needs it is copied too, and so is what that loads in turn."""
    copied = {source for sources, _ in copies(IMAGES / "workloads.Dockerfile") for source in sources}
    files, seen = set((ROOT / "workloads").rglob("*.py")), set[Path]()
    while files:
        file = files.pop()
        seen.add(file)
        for name in re.findall(r"^ *(?:from|import) adapters\.(\w+)", file.read_text(), re.MULTILINE):
            wanted = ROOT / "adapters" / f"{name}.py"
            assert str(wanted.relative_to(ROOT)) in copied, (file, name)
            files |= {wanted} - seen


def test_workloads_have_every_part_of_the_store() -> None:
    """What the store loads only when a URL asks for it is copied too, and so is what jobs load only when they sign."""
    copied = {source for sources, _ in copies(IMAGES / "workloads.Dockerfile") for source in sources}
    assert {str(file.relative_to(ROOT)) for file in (ROOT / "adapters").glob("store*.py")} <= copied
    assert "adapters/artifact_signatures.py" in copied


def pins(lock: Path) -> dict[str, str]:
    """Give every requirement of a lock with its version and hashes."""
    blocks = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", lock.read_text(), flags=re.MULTILINE).strip())
    return {block.split("==")[0]: block.strip() for block in blocks}


@pytest.mark.parametrize("name", LOCKS)
def test_locks_are_cut_from_the_one_that_is_tested(name: str) -> None:
    """Same versions and same hashes as requirements/all.lock, which all tests run with."""
    tested = pins(ROOT / "requirements" / "all.lock")
    for package, pin in pins(LOCKS[name]).items():
        assert pin == tested[package], f"run deploy/images/lock.sh: {package} is not as in requirements/all.lock"


def test_server_image_has_no_trainer_and_neither_has_tools() -> None:
    """Servers come without PyTorch and Ultralytics, both images without what only tests and developers need."""
    serve, train = pins(LOCKS["serve"]), pins(LOCKS["train"])
    heavy = {"torch", "torchvision", "ultralytics", "onnx", "matplotlib"}
    assert heavy <= train.keys()
    assert not heavy & serve.keys()
    assert {"onnxruntime", "aiohttp", "s3fs"} <= serve.keys()
    for tool in ("pytest", "ruff", "mypy", "moto", "hypothesis", "kopf", "kubernetes"):
        assert tool not in serve
        assert tool not in train


def test_locks_have_what_pyproject_asks_for() -> None:
    """Every direct requirement of the extras is in the lock of the image that needs it."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, lock in LOCKS.items():
        asked = [
            *project["dependencies"],
            *project["optional-dependencies"][name],
            *project["optional-dependencies"]["s3"],
        ]
        names = {re.split(r"[\[<>=!~ ]", each)[0].lower() for each in asked}
        assert names <= pins(lock).keys()
