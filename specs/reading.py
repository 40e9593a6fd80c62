"""Manifests: ModelSpecs as text. Reading reports everything that is wrong, each with its line and field.

A file may hold several documents; those of other kinds are nobody's business here and are never judged, beyond
that the file as a whole must be YAML once it mentions a ModelSpec.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydantic import ValidationError

from specs.errors import InvalidManifest, Problem
from specs.explain import dotted, problems
from specs.modelspec import API_VERSION, KIND, ModelKey, ModelSpec
from specs.yaml_text import SIZE_LIMIT, Document, Node, Reading, documents, read

PROBLEM_LIMIT = 50
"""Problems that are reported of one ModelSpec."""

_GROUP = API_VERSION.partition("/")[0] + "/"


@dataclass(frozen=True)
class LoadedModel:
    """A valid ModelSpec and where it stands."""

    model: ModelSpec
    document: int
    """Number of its document in the file, from 0, other kinds counted."""
    line: int
    """Line of its first field, from 1."""
    start: int
    end: int
    """Its document is ``text[start:end]``."""

    @property
    def key(self) -> ModelKey:
        """Namespace and name."""
        return self.model.key


@dataclass(frozen=True)
class Candidate:
    """A document that means to be a ModelSpec, valid or not. ``key`` is None where it has no usable name."""

    key: ModelKey | None
    document: Document
    reading: Reading

    @property
    def line(self) -> int:
        """Line of its first field, from 1."""
        return self.document.root.start.line


def decode(data: bytes, path: str) -> str:
    """Give a file's text; InvalidManifest where it is no UTF-8 or too long."""
    if len(data) > SIZE_LIMIT:
        raise InvalidManifest((Problem(path, 0, 0, "", f"is longer than {SIZE_LIMIT} bytes; split the file"),))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        problem = Problem(path, line, column, "", "is not valid UTF-8; save the file as UTF-8")
        raise InvalidManifest((problem,)) from error


def find(text: str, path: str) -> list[Candidate]:
    """Give all documents that mean to be ModelSpecs, without judging them; InvalidManifest where the file is not YAML.

    Files that do not even mention one give an empty list, whatever else they are.
    """
    if KIND not in text and _GROUP not in text:
        return []
    return [_candidate(document) for document in documents(text, path) if _is_ours(document.root)]


def load(text: str, path: str) -> list[LoadedModel]:
    """Read all ModelSpecs of a file, in order; InvalidManifest with every problem of every one of them."""
    candidates = find(text, path)
    results = [_judge(candidate, candidates, path) for candidate in candidates]
    wrong = [problem for result in results if isinstance(result, tuple) for problem in result]
    if wrong:
        raise InvalidManifest(tuple(wrong))
    return [result for result in results if isinstance(result, LoadedModel)]


def parse(text: str, path: str, key: ModelKey) -> LoadedModel:
    """Read one ModelSpec of a file; InvalidManifest with its problems, whatever is wrong with others in the file."""
    return judge(find(text, path), path, key)


def judge(candidates: list[Candidate], path: str, key: ModelKey) -> LoadedModel:
    """Read one of the ModelSpecs that ``find`` gave; raises as ``parse`` does."""
    wanted = [candidate for candidate in candidates if candidate.key == key]
    if not wanted:
        there = ", ".join(str(candidate.key) for candidate in candidates if candidate.key) or "none"
        raise InvalidManifest((Problem(path, 0, 0, "", f"holds no ModelSpec {key}; there is {there}"),))
    result = _judge(wanted[0], candidates, path)
    if isinstance(result, tuple):
        raise InvalidManifest(result)
    return result


def _is_ours(root: Node) -> bool:
    version, kind = root.get("apiVersion"), root.get("kind")
    if version is not None and version.kind == "scalar" and version.value:
        return version.value.startswith(_GROUP)
    return kind is not None and kind.value == KIND


def _candidate(document: Document) -> Candidate:
    reading = read(document.root)
    metadata = reading.data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    namespace = metadata.get("namespace", "default") if isinstance(metadata, dict) else None
    key = ModelKey(namespace, name) if isinstance(name, str) and isinstance(namespace, str) else None
    return Candidate(key, document, reading)


def _judge(candidate: Candidate, all_: list[Candidate], path: str) -> LoadedModel | tuple[Problem, ...]:
    """Give the model, or everything that is wrong with it."""
    foreign = _foreign(candidate, path)
    if foreign is not None:
        return (foreign,)
    wrong = [
        Problem(path, flaw.node.start.line, flaw.node.start.column, dotted(flaw.where), flaw.message)
        for flaw in candidate.reading.flaws
    ]
    wrong += _same_name(candidate, all_, path)
    document = candidate.document
    try:
        model = ModelSpec.model_validate(candidate.reading.data, by_alias=True, by_name=False)
        if not wrong:
            return LoadedModel(model, document.number, candidate.line, document.start, document.end)
    except ValidationError as error:
        wrong += problems(error, document.root, path, [flaw.where for flaw in candidate.reading.flaws])
    return _first(sorted(wrong, key=lambda problem: (problem.line, problem.column)))


def _first(wrong: list[Problem]) -> tuple[Problem, ...]:
    """Keep no more problems than somebody would read."""
    if len(wrong) <= PROBLEM_LIMIT:
        return tuple(wrong)
    last = wrong[PROBLEM_LIMIT]
    more = replace(last, field="", message=f"and {len(wrong) - PROBLEM_LIMIT} more")
    return (*wrong[:PROBLEM_LIMIT], more)


def _foreign(candidate: Candidate, path: str) -> Problem | None:
    """Say so where a document has our group, but another version or kind: nothing else about it can be judged."""
    root = candidate.document.root
    for name, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        node = root.get(name)
        if node is not None and node.kind == "scalar" and node.value and node.value != wanted:
            message = f"this version of Trunkline reads {wanted}, not {node.value}"
            return Problem(path, node.start.line, node.start.column, name, message)
    return None


def _same_name(candidate: Candidate, all_: list[Candidate], path: str) -> list[Problem]:
    if candidate.key is None:
        return []
    others = [other.line for other in all_ if other.key == candidate.key and other is not candidate]
    if not others:
        return []
    metadata = candidate.document.root.get("metadata")
    name = (metadata and metadata.get("name")) or candidate.document.root
    lines = f"line{'s' if len(others) > 1 else ''} {', '.join(map(str, others))}"
    message = f"ModelSpec {candidate.key} of line {candidate.line} stands in {lines} too; names must differ"
    return [Problem(path, name.start.line, name.start.column, "metadata.name", message)]
