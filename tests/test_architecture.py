"""The rules of the house: who may import what, how big things may grow, what must never be written down."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGES = ("specs", "reconcilers", "adapters", "controller", "workloads")
PURE = ("specs", "reconcilers")

MODULE_LINES = 300
FUNCTION_LINES = 60
KOPF_FILES = 4
CONTROLLER_PACKAGES = 60

HEAVY = ("torch", "torchvision", "ultralytics", "onnxruntime", "onnx", "numpy", "cv2", "PIL", "matplotlib", "sklearn")
"""Libraries that only jobs and servers may load."""

SPECS_MAY_IMPORT = {"specs", "pydantic", "pydantic_core", "yaml", "deepdiff"} | set(sys.stdlib_module_names)
RECONCILERS_MAY_IMPORT = {"specs", "reconcilers", "pydantic"} | set(sys.stdlib_module_names)

CLOCKS = re.compile(r"^(datetime|date|datetime\.datetime|datetime\.date|time)\.(now|utcnow|today|time|monotonic)$")
STATUS_WRITES = re.compile(r"(^|\.|_)(write_status|set_status|(patch|replace)_(\w+_)?status|statuses\.write)$")
"""Calls that write status, by the names they are called by."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _sources(*packages: str) -> list[tuple[str, str, ast.Module]]:
    """Give (path relative to the repository, text, syntax tree) of every module, sorted."""
    paths = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    texts = [(path, path.read_text(encoding="utf-8")) for path in paths]
    return [(path.relative_to(ROOT).as_posix(), text, ast.parse(text, str(path))) for path, text in texts]


MODULES = _sources(*PACKAGES)


def _functions() -> Iterator[tuple[str, Function]]:
    for path, _, tree in MODULES:
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield f"{path}:{node.lineno} {node.name}", node


def _imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Give (line, full module name) of every absolute import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module


def _calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Give (line, dotted name as written) of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def _tracked() -> list[Path]:
    """Give the files that git has, or would take; the test needs git's opinion on what is ignored."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def _python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter, at the repository's root."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _none(found: list[str], rule: str) -> None:
    assert not found, f"{rule}:\n  " + "\n  ".join(found)


def test_import_contracts_are_kept() -> None:
    """The import contracts in pyproject.toml hold."""
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = _python(program, "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("package", "allowed"), [("specs", SPECS_MAY_IMPORT), ("reconcilers", RECONCILERS_MAY_IMPORT)], ids=PURE
)
def test_pure_packages_import_nothing_else(package: str, allowed: set[str]) -> None:
    """Specs and reconcilers import nothing but what is named here, so a new library is a decision."""
    found = [
        f"{path}:{line} {name}"
        for path, _, tree in MODULES
        if path.startswith(f"{package}/")
        for line, name in _imported(tree)
        if name.partition(".")[0] not in allowed or name.startswith("urllib.request")
    ]
    _none(found, f"{package} may not import")


def test_pure_packages_read_no_clock_and_no_file() -> None:
    """Time and files are handed in to specs and reconcilers: they call no clock, no open() and no print()."""
    found = [
        f"{path}:{line} {name}()"
        for path, _, tree in MODULES
        if path.startswith(PURE)
        for line, name in _calls(tree)
        if CLOCKS.match(name) or name in {"open", "print", "input", "Path", "pathlib.Path"}
    ]
    _none(found, "not pure")


def _control_plane() -> list[str]:
    """Give every module that the control plane may load, as import names."""
    paths = [Path(path) for path, _, _ in MODULES if not path.startswith("workloads/")]
    return [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths]


def test_control_plane_loads_nothing_heavy() -> None:
    """Importing the whole control plane loads no machine-learning library."""
    program = (
        "import importlib, sys\n"
        f"for name in {_control_plane()!r}: importlib.import_module(name)\n"
        f"print(*sorted(set({HEAVY!r}) & sys.modules.keys()))"
    )
    done = _python(program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], "the control plane loads what only jobs may load"


def test_modules_are_short() -> None:
    """No module is longer than one can keep in mind."""
    sizes = [(path, len(text.splitlines())) for path, text, _ in MODULES]
    _none([f"{path}: {size}" for path, size in sizes if size > MODULE_LINES], f"more than {MODULE_LINES} lines")


def test_functions_are_short() -> None:
    """No function is longer than a screen."""
    sizes = [(place, (node.end_lineno or node.lineno) - node.lineno + 1) for place, node in _functions()]
    _none([f"{place}: {size}" for place, size in sizes if size > FUNCTION_LINES], f"more than {FUNCTION_LINES} lines")


def test_nothing_is_caught_blindly() -> None:
    """There is no bare except."""
    found = [
        f"{path}:{node.lineno}"
        for path, _, tree in MODULES
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    _none(found, "bare except")


def test_every_function_says_what_it_returns() -> None:
    """Every function has a return annotation."""
    _none([place for place, node in _functions() if node.returns is None], "no return annotation")


def _public(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.ClassDef | Function]]:
    """Give public classes, functions and methods; what is inside functions is nobody else's."""
    for node in body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield f"{prefix}:{node.lineno} {node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body, prefix)


def _inherits_its_contract(node: ast.ClassDef | Function) -> bool:
    """Whether the contract is written elsewhere: at the method that this one overrides, or at the overloaded one."""
    names = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    return bool(names & {"override", "overload"})


def test_public_names_have_docstrings() -> None:
    """Every module that holds code, and every public class, function and method, states its contract."""
    found = [f"{path}:1" for path, text, tree in MODULES if text.strip() and ast.get_docstring(tree) is None]
    found += [
        place
        for path, _, tree in MODULES
        for place, node in _public(tree.body, path)
        if ast.get_docstring(node) is None and not _inherits_its_contract(node)
    ]
    _none(found, "no docstring")


def test_few_files_know_kopf() -> None:
    """Kopf stays at the edge: few files import it."""
    found = [path for path, _, tree in MODULES if any(name.split(".")[0] == "kopf" for _, name in _imported(tree))]
    assert len(found) <= KOPF_FILES, found


def test_status_is_written_in_one_place() -> None:
    """At most one call in the whole product writes status."""
    calls = [(f"{path}:{line} {name}()", name) for path, _, tree in MODULES for line, name in _calls(tree)]
    found = [place for place, name in calls if STATUS_WRITES.search(name)]
    assert len(found) <= 1, found


PATCHES = re.compile(r"^(mock\.patch|patch|patch\.object|mocker\.patch\w*|monkeypatch\.(setattr|delattr))$")


def _patched(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Give (line, what) of every replacement of something that is not the standard library's."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and PATCHES.match(ast.unparse(node.func)) and node.args:
            target = ast.unparse(node.args[0]).strip("'\"")
            if target.partition(".")[0] not in sys.stdlib_module_names:
                yield node.lineno, target


def test_our_own_modules_are_never_patched() -> None:
    """Tests use real parts or hand-written fakes: nothing of ours is replaced behind its back."""
    found = [f"{path}:{line} {target}" for path, _, tree in _sources("tests") for line, target in _patched(tree)]
    _none(found, "patched")


def test_every_test_states_the_behaviour() -> None:
    """Every test has a docstring."""
    found = [
        f"{path}:{node.lineno} {node.name}"
        for path, _, tree in _sources("tests")
        for node in ast.walk(tree)
        if isinstance(node, Function) and node.name.startswith("test_") and ast.get_docstring(node) is None
    ]
    _none(found, "no docstring")


FOREIGN = re.compile(
    r"(?<![\w.\-}/])/(?:work|tmp/w)/"  # folders of the machine that this was written on
    r"|(?:extra-)?index" + r"-url\s*[=: ]\s*\S*://"  # a registry's address
    r"|https?://[^\s/]*(?:pythonhosted|pypi)\.[a-z]+/(?:simple|packages)"
)


def test_no_machine_is_written_down() -> None:
    """No tracked file names a folder of the machine it was written on, or the address of a package registry."""
    found = []
    for path in _tracked():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [
            f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1} {match[0]}"
            for match in FOREIGN.finditer(text)
        ]
    _none(found, "names a machine or a registry")


def _lock(name: str) -> dict[str, str]:
    """Give package to version of a lock file."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    return {canonicalize_name(found[1]): found[2] for found in re.finditer(r"(?m)^([\w.-]+)==(\S+)", text)}


def _declared() -> Iterator[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    yield from map(Requirement, project["dependencies"])
    for extra in project["optional-dependencies"].values():
        yield from (requirement for requirement in map(Requirement, extra) if requirement.name != project["name"])


def test_lock_satisfies_what_is_declared() -> None:
    """The lock file holds a fitting version of everything that pyproject.toml asks for: run `make lock` if not."""
    pins = _lock("all")
    found = [
        f"{requirement}: locked {pins.get(canonicalize_name(requirement.name), 'not at all')}"
        for requirement in _declared()
        if not requirement.specifier.contains(pins.get(canonicalize_name(requirement.name), "0"), prereleases=True)
    ]
    _none(found, "requirements/all.lock is out of date")


def test_control_plane_stays_small() -> None:
    """The control plane with the operator is a small install, without any machine-learning library."""
    pins, everything = _lock("controller"), _lock("all")
    assert len(pins) <= CONTROLLER_PACKAGES
    assert not {"torch", "numpy", "ultralytics", "onnxruntime", "pandas", "scipy"} & pins.keys()
    _none([f"{name} {pins[name]}" for name in pins if everything.get(name) != pins[name]], "differs from all.lock")
