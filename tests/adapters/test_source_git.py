"""The agent's source: which models the tracked branch asks for, what is broken there, and what was ever released."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters.repository import Repository
from adapters.source_git import GitSource
from specs.errors import Stalled, Transient
from specs.modelspec import ModelKey
from tests.support.gitrepo import Hub, git

SHA = "sha256:" + "a" * 64
DIGITS, SHELF = ModelKey("default", "digits"), ModelKey("retail", "shelf")


def manifest(name: str = "digits", namespace: str = "", *, version: int = 0, epochs: int = 3, extra: str = "") -> str:
    """Give a valid ModelSpec as a person would write it."""
    place = f", namespace: {namespace}" if namespace else ""
    release = (
        f"""  release:
    version: {version}
    run: {SHA}
    weights: {SHA}
    exports: {{onnx: "{SHA}"}}
"""
        if version
        else ""
    )
    return f"""# what we want
apiVersion: trunkline.dev/v1alpha1
kind: ModelSpec
metadata: {{name: {name}{place}}}
spec:
  task: classify
  data: {{train: {{uri: {{url: "store://digits", digest: "{SHA}"}}}}}}
  training: {{model: yolo26n-cls.yaml, args: {{epochs: {epochs}}}}}
  exports: [{{name: onnx, format: onnx}}]
{release}{extra}"""


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """Give a bare repository with one model."""
    hub = Hub(tmp_path / "far")
    hub.commit({"models/digits.yaml": manifest(), "README.md": "x\n"}, "First", when=1_700_000_000)
    return hub


@pytest.fixture
def source(hub: Hub) -> GitSource:
    """Give a source that has looked once."""
    return source_of(hub)


def source_of(hub: Hub, name: str = "near", prefix: str = "") -> GitSource:
    """Give a source that has looked once."""
    source = GitSource(Repository(str(hub.path), hub.path.parent.parent / name), prefix=prefix)
    source.refresh()
    return source


def everything(source: GitSource) -> object:
    """What a source says about the world."""
    return (source.head, {key: source.get(key) for key in sorted(source.keys())}, dict(source.broken), source.problems)


def fresh(hub: Hub) -> object:
    """What a source says that has never looked before."""
    return everything(source_of(hub, f"near-{os.urandom(4).hex()}"))


def test_a_model_is_found_with_its_origin(hub: Hub, source: GitSource) -> None:
    """Text, path, line, head, last change, repository and branch of a ModelSpec are known."""
    later = hub.commit({"README.md": "y\n"}, "Other")
    source.refresh()
    found = source.get(DIGITS)
    assert source.keys() == (DIGITS,)
    assert found is not None
    assert (found.path, found.line, found.head, found.text) == ("models/digits.yaml", 2, later, manifest())
    assert (found.changed.subject, found.changed.when) == ("First", 1_700_000_000)
    assert (found.repository, found.branch, found.last_version) == (str(hub.path), "main", 0)
    assert source.problems == ()
    assert source.broken == {}


def test_an_unknown_model_is_none(source: GitSource) -> None:
    """Asking for what is not there is no error."""
    assert source.get(SHELF) is None


def test_one_file_may_hold_several_models(hub: Hub, source: GitSource) -> None:
    """Documents of other kinds between them do not matter; each model knows its line."""
    text = manifest("a") + "---\nkind: ConfigMap\napiVersion: v1\n---\n" + manifest("b", "retail")
    hub.commit({"models/many.yml": text})
    source.refresh()
    assert source.keys() == (ModelKey("default", "a"), DIGITS, ModelKey("retail", "b"))
    second = source.get(ModelKey("retail", "b"))
    assert second is not None
    assert text.splitlines()[second.line - 1].startswith("apiVersion")
    assert second.text == text


def test_only_files_below_the_prefix_count(hub: Hub) -> None:
    """A prefix is a folder, not the beginning of a name."""
    hub.commit({"models-old/x.yaml": manifest("old"), "models/sub/y.yaml": manifest("sub")})
    source = source_of(hub, prefix="models/")
    assert source.keys() == (DIGITS, ModelKey("default", "sub"))
    with pytest.raises(Stalled):
        source_of(hub, prefix="../x")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("kustomization.yaml", "resources: [a.yaml]\n"),
        ("chart/templates/role.yaml", "{{ if .x }}\nrules: [{apiGroups: [x]}]\n{{ end }}"),
        ("chart/templates/rbac.yaml", "{{- if .x }}\napiGroups: [trunkline.dev/v1alpha1]\n{{ end }}"),
        ("broken.yaml", "a: [\n"),
        ("empty.yaml", ""),
        ("list.yaml", "- 1\n- 2\n"),
        ("app.yaml", "kind: Application\nspec: {note: ModelSpec}\n"),
        ("models/notes.txt", manifest("text")),
        ("twice.yaml", "a: 1\na: 2\n"),
    ],
    ids=["kustomization", "helm", "helm-rbac", "broken", "empty", "list", "mention", "text", "duplicate-keys"],
)
def test_what_is_no_modelspec_is_nobodys_business(hub: Hub, source: GitSource, path: str, text: str) -> None:
    """Other YAML, templates and broken files of others are not judged."""
    hub.commit({path: text})
    source.refresh()
    assert source.keys() == (DIGITS,)
    assert source.problems == ()


def test_binary_rubbish_with_a_yaml_name_is_ignored(hub: Hub, source: GitSource) -> None:
    """A file that is no text and was never a model is no problem."""
    hub.commit({"x.yaml": b"\xff\xfe\x00\x01", "link-target": "x"})
    (hub.clone / "link.yaml").symlink_to("models/digits.yaml")
    hub.commit({})
    source.refresh()
    assert source.keys() == (DIGITS,)
    assert source.problems == ()


BROKEN = {
    "unknown-field": (manifest(extra="  nonsense: 1\n"), "nonsense"),
    "wrong-type": (manifest().replace("task: classify", "task: [classify]"), "task"),
    "syntax": (manifest() + "  x: [\n", ""),
    "duplicate-key": (manifest() + "  task: detect\n", "task"),
    "no-yaml-at-all": ("{{ nothing }} of: [ours", ""),
    "not-utf8": (b"\xff\xfe kind: ModelSpec", "UTF-8"),
    "name-lost": (manifest().replace("name: digits", "title: digits"), "name"),
}


@pytest.mark.parametrize(("text", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_a_file_that_broke_keeps_its_model(hub: Hub, source: GitSource, text: str | bytes, words: str) -> None:
    """A broken file takes its model out of action but not out of sight, also after a restart; mending it heals."""
    hub.commit({"models/shelf.yaml": manifest("shelf", "retail")})
    hub.commit({"models/digits.yaml": text}, "Break it")
    source.refresh()
    assert source.keys() == (SHELF,)
    assert source.get(DIGITS) is None
    assert set(source.broken) == {DIGITS}
    assert source.broken[DIGITS]
    assert {problem.path for problem in source.problems} == {"models/digits.yaml"}
    assert any(words in str(problem) for problem in source.problems)
    assert everything(source) == fresh(hub)
    hub.commit({"models/digits.yaml": manifest(epochs=5)}, "Mend it")
    source.refresh()
    assert source.keys() == (DIGITS, SHELF)
    assert source.broken == {}
    assert everything(source) == fresh(hub)


def test_a_broken_file_stays_known_through_many_bad_commits(hub: Hub, source: GitSource) -> None:
    """The last version that could be read tells what the file held, however long ago."""
    for number in range(3):
        hub.commit({"models/digits.yaml": f"[broken {number}"})
    source.refresh()
    assert set(source.broken) == {DIGITS}
    assert everything(source) == fresh(hub)


def test_a_new_broken_modelspec_is_a_problem(hub: Hub, source: GitSource) -> None:
    """A file that means to be a ModelSpec and is no YAML is reported, even if it never was right."""
    hub.commit({"models/new.yaml": "kind: ModelSpec\nmetadata: {name: [\n"})
    source.refresh()
    assert [problem.path for problem in source.problems] == ["models/new.yaml"]
    assert source.problems[0].line > 0
    assert source.broken == {}


def test_one_bad_document_does_not_stop_its_neighbours(hub: Hub, source: GitSource) -> None:
    """Invariant 9, inside one file: the good models go on, the bad one is broken with its reasons."""
    bad = manifest("bad").replace("task: classify", "task: dance")
    hub.commit({"models/both.yaml": manifest("good") + "---\n" + bad})
    source.refresh()
    assert source.keys() == (DIGITS, ModelKey("default", "good"))
    assert set(source.broken) == {ModelKey("default", "bad")}
    assert all(problem.field.startswith("spec.task") for problem in source.broken[ModelKey("default", "bad")])


def test_two_files_with_one_name_are_both_left_alone(hub: Hub, source: GitSource) -> None:
    """Neither is acted on; the problem names both files and lines; removing one heals the other."""
    hub.commit({"models/copy.yaml": "\n\n" + manifest(epochs=9)})
    source.refresh()
    assert source.keys() == ()
    assert set(source.broken) == {DIGITS}
    said = [str(problem) for problem in source.problems]
    assert any(one.startswith("models/copy.yaml:4") and "models/digits.yaml:2" in one for one in said)
    assert any(one.startswith("models/digits.yaml:2") and "models/copy.yaml:4" in one for one in said)
    assert everything(source) == fresh(hub)
    hub.commit({"models/digits.yaml": None})
    source.refresh()
    assert source.keys() == (DIGITS,)
    assert source.problems == ()


def test_one_name_twice_in_one_file_is_broken(hub: Hub, source: GitSource) -> None:
    """The same holds within one file."""
    hub.commit({"models/digits.yaml": manifest() + "---\n" + manifest(epochs=9)})
    source.refresh()
    assert source.keys() == ()
    assert set(source.broken) == {DIGITS}


@pytest.mark.parametrize("how", ["removed", "emptied", "other-kind"])
def test_a_model_that_is_taken_out_is_gone(hub: Hub, source: GitSource, how: str) -> None:
    """Deleting the file, or the document, withdraws the model: that is no breakage."""
    hub.commit(
        {"models/digits.yaml": {"removed": None, "emptied": "# nothing\n", "other-kind": "kind: ConfigMap\n"}[how]}
    )
    source.refresh()
    assert source.keys() == ()
    assert source.broken == {}
    assert everything(source) == fresh(hub)


def test_the_highest_version_is_remembered(hub: Hub, source: GitSource) -> None:
    """Versions never go back: after a revert, a removal, a move to another file, the highest one still counts."""
    hub.commit({"models/digits.yaml": manifest(version=1)})
    second = hub.commit({"models/digits.yaml": manifest(version=2)})
    source.refresh()
    assert version(source) == 2
    git(hub.clone, "revert", "--no-edit", second)
    hub.commit({"README.md": "reverted\n"})
    source.refresh()
    assert version(source) == 2
    hub.commit({"models/digits.yaml": None})
    hub.commit({"other/place.yaml": manifest(version=1)})
    source.refresh()
    assert version(source) == 2
    assert everything(source) == fresh(hub)


def version(source: GitSource) -> int:
    """Give the highest version ever released of the one model."""
    found = source.get(DIGITS)
    assert found is not None
    return found.last_version


def test_a_version_on_a_side_branch_was_never_released(hub: Hub, source: GitSource) -> None:
    """Only what the tracked branch itself held counts, not what a branch held before it was merged."""
    hub.commit({"models/digits.yaml": manifest(version=9)}, branch="side", start="main")
    hub.commit({"models/digits.yaml": manifest(version=3)}, branch="side")
    merge = hub.merge("side", message="Release")
    source.refresh()
    found = source.get(DIGITS)
    assert found is not None
    assert (found.last_version, found.changed.sha, found.changed.subject) == (3, merge, "Release")


def test_a_rewritten_branch_is_read_anew(hub: Hub, source: GitSource) -> None:
    """After a force push nothing of the old line counts any more: as if it had never been seen."""
    first = hub.head()
    hub.commit({"models/digits.yaml": manifest(version=5), "models/shelf.yaml": manifest("shelf", "retail")})
    source.refresh()
    assert version(source) == 5
    hub.commit({"models/digits.yaml": manifest(version=1)}, "Rewritten", branch="main", start=first)
    source.refresh()
    assert source.keys() == (DIGITS,)
    assert version(source) == 1
    assert everything(source) == fresh(hub)


def test_step_by_step_is_the_same_as_all_at_once(hub: Hub, source: GitSource) -> None:
    """Whatever happens on the branch, a source that watched it says what one says that comes late."""
    steps: list[dict[str, str | bytes | None]] = [
        {"models/shelf.yaml": manifest("shelf", "retail", version=1)},
        {"x.yaml": "a: 1"},
        {"models/shelf.yaml": "[oops"},
        {"models/copy.yaml": manifest()},
        {"models/shelf.yaml": manifest("shelf", "retail", version=2)},
        {"models/copy.yaml": None, "models/digits.yaml": manifest(version=1)},
        {"models/digits.yaml": b"\xff"},
        {"models/digits.yaml": manifest(version=1, epochs=8), "models/shelf.yaml": None},
    ]
    for files in steps:
        hub.commit(files)
        source.refresh()
        assert everything(source) == fresh(hub)


def test_a_step_reads_only_what_changed(hub: Hub) -> None:
    """With a hundred models, after one edit the text of the others is the very same object as before."""
    hub.commit({f"models/m{number}.yaml": manifest(f"m{number}") for number in range(100)})
    source = source_of(hub)
    assert len(source.keys()) == 101
    hub.commit({"models/m7.yaml": manifest("m7", epochs=99)})
    before = {key: source.get(key) for key in sorted(source.keys())}
    source.refresh()
    changed = {key for key in sorted(source.keys()) if source.get(key).text != before[key].text}  # type: ignore[union-attr]
    assert changed == {ModelKey("default", "m7")}
    kept = ModelKey("default", "m8")
    assert source.get(kept).text is before[kept].text  # type: ignore[union-attr]


def test_nothing_new_changes_nothing(source: GitSource) -> None:
    """A refresh without a new commit hands out the very same values."""
    before = source.get(DIGITS)
    source.refresh()
    assert source.get(DIGITS) is before


def test_an_unreachable_repository_leaves_what_was_known(hub: Hub, source: GitSource) -> None:
    """While the remote is away the last picture stays, and refresh says Transient."""
    before = everything(source)
    hub.path.rename(hub.path.with_name("away"))
    with pytest.raises(Transient):
        source.refresh()
    assert everything(source) == before


def test_a_file_name_that_is_not_utf8_is_a_problem(hub: Hub, source: GitSource) -> None:
    """A ModelSpec in a file that could not be edited is reported in words that can be printed."""
    hub.commit({os.fsdecode(b"models/caf\xe9.yaml"): manifest("cafe")})
    source.refresh()
    assert source.keys() == (DIGITS,)
    assert set(source.broken) == {ModelKey("default", "cafe")}
    assert str(source.problems[0]).encode().startswith(b"models/caf\\xe9.yaml")


def test_credentials_never_show_in_the_origin(hub: Hub) -> None:
    """The repository of a model is its address; a form that could hold a secret is refused before."""
    with pytest.raises(Stalled) as caught:
        Repository("https://user:secret@host/x.git", hub.path.parent)
    assert "secret" not in caught.value.message
