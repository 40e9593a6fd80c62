"""What somebody could do to a history of releases, each in a repository of its own that is real and was honest."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from specs.digests import digest_bytes
from specs.records import blob_key, evaluation_key
from tests.support.gitrepo import git
from tests.support.place import FILE
from tests.support.released import EVIDENCE, Repo

Files = dict[str, str | bytes | None]
TRUNKLINE = "Trunkline <trunkline@localhost>"


@dataclass(frozen=True)
class Tampering:
    """What is done, how the proof is asked for, and what it must find."""

    act: Callable[[Repo], object]
    codes: tuple[str, ...]
    options: tuple[str, ...] = ()
    exit_code: int = 1


def merge(repo: Repo, change: Callable[[Files], object], message: str = "", *, squash: bool = False) -> None:
    """Merge the open proposal of v7 as the forge would, but for a change of its files or of what it says."""
    pull = repo.opened()
    repo.checkout()
    git(repo.clone, "merge", "-q", "--no-commit", *(("--squash",) if squash else ("--no-ff",)), f"origin/{pull.branch}")
    names = [FILE, EVIDENCE.format(7)]
    before = {name: (repo.clone / name).read_text() for name in names}
    files: Files = dict(before)
    change(files)
    for path, content in files.items():
        (repo.clone / path).parent.mkdir(parents=True, exist_ok=True)
        (repo.clone / path).write_text(str(content))
    git(repo.clone, "add", "--all")
    trailers = git(repo.clone, "log", "-1", "--format=%(trailers:only)", f"origin/{pull.branch}")
    text = message or f"Merge pull request #{pull.number} from {pull.branch}\n\n{trailers.strip()}\n"
    git(repo.clone, "commit", "-q", "-m", text, when=repo.now + 60)
    repo.push()


def nothing(files: Files) -> None:
    """Change nothing."""


def _better(files: Files) -> None:
    """Let the evidence of v7 claim more than was measured."""
    evidence = json.loads(str(files[EVIDENCE.format(7)]))
    evidence["evaluation"]["values"]["metrics/accuracy_top1"] = 0.99
    files[EVIDENCE.format(7)] = json.dumps(evidence, indent=1, sort_keys=True) + "\n"


def _pinned(files: Files) -> None:
    """Let the release name the evidence as it is now."""
    digest = digest_bytes(str(files[EVIDENCE.format(7)]).encode())
    files[FILE] = re.sub(r"evidence: .*", f"evidence: {digest}", str(files[FILE]), count=1)


def _edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Repo], None]:
    """Merge evidence of v7 that says something else, with its new digest pinned."""

    def act(files: Files) -> None:
        evidence = json.loads(str(files[EVIDENCE.format(7)]))
        change(evidence)
        files[EVIDENCE.format(7)] = json.dumps(evidence, indent=1, sort_keys=True) + "\n"
        _pinned(files)

    return lambda repo: merge(repo, act)


def _swapped(files: Files) -> None:
    """Let the release pin the export of v6, which was never measured as v7."""
    text = str(files[FILE])
    old = re.findall(r"onnx: (sha256:\w+)", text)
    files[FILE] = text.replace(old[0], old[1], 1)


def _elsewhere(files: Files) -> None:
    files[FILE] = str(files[FILE]).replace("epochs: 12", "epochs: 120")
    files["README.md"] = "hello\n"


def _release(repo: Repo, pattern: str, new: str, message: str = "A quick fix", author: str = "") -> str:
    """Change what is released, by hand."""
    text, count = re.subn(pattern, new, repo.read(), count=1)
    assert count == 1, pattern
    return repo.commit({FILE: text}, message, author=author)


def _without_evidence(repo: Repo) -> None:
    text = repo.read()
    at = text.index("  release:")
    made = "sha256:" + "e" * 64
    old = re.sub(r"(?m)^", "  ", re.sub(r"    evidence: .*\n", "", text[at:].partition("    previous:")[0]))
    previous = old.replace("    release:", "    previous:")
    pinned = f"  release:\n    version: 7\n    run: {made}\n    weights: {made}\n    exports: {{onnx: {made}}}\n"
    repo.commit({FILE: text[:at] + pinned + previous}, "Ship the one from my laptop")


def _cherry_pick(repo: Repo) -> None:
    """Put the proposal's own commit on the branch, without its pull request."""
    branch = repo.opened().branch
    repo.checkout()
    git(repo.clone, "cherry-pick", f"origin/{branch}", when=repo.now + 60)
    git(repo.clone, "commit", "-q", "--amend", "--allow-empty", "--reset-author", "--no-edit", when=repo.now + 60)
    repo.push()


def _loosened(repo: Repo) -> None:
    _release(repo, "min: 0.9}", "min: 0.95}", "Ask for more")

    def loosen(files: Files) -> None:
        files[FILE] = str(files[FILE]).replace("min: 0.95}", "min: 0.9}")

    merge(repo, loosen, "Release it, and let the gate be", squash=True)


def _trailers(old: str, new: str) -> Callable[[Repo], None]:
    def act(repo: Repo) -> None:
        pull = repo.opened()
        git(repo.clone, "fetch", "-q", "origin")
        trailers = git(repo.clone, "log", "-1", "--format=%(trailers:only)", f"origin/{pull.branch}").strip()
        trailers += f"\nTrunkline-Pull-Request: {pull.number}"
        text, count = re.subn(old, new, trailers)
        assert count == 1
        merge(repo, nothing, f"Merge pull request #{pull.number} from {pull.branch}\n\n{text}\n")

    return act


def _reworded(repo: Repo) -> None:
    """Write the history anew from its root: every commit has the same files and another name."""
    repo.checkout()
    stream = git(repo.clone, "fast-export", "--signed-tags=strip", "main")
    changed = stream.replace("Want digits", "Want numbers").replace("refs/heads/main", "refs/heads/again")
    assert changed != stream
    git(repo.clone, "fast-import", "--quiet", "--force", stdin=changed.encode("utf-8", "surrogateescape"))
    git(repo.clone, "checkout", "-q", "-f", "again")
    repo.push()


def _cut_off(repo: Repo) -> None:
    """Set the branch back before v6, as if that had never been."""
    repo.checkout("main", "origin/main~2")
    repo.push()


def _denied(repo: Repo) -> None:
    """Release a run that was denied, under a new version, and take it off the list in passing."""
    run = re.findall(r"run: (sha256:\w+)", repo.read())[0]
    text = repo.read()
    repo.commit({FILE: text + f"    deny: [{{run: {run}, reason: bad at night}}]\n"}, "Deny it")
    repo.commit({FILE: re.sub(r"version: 6", "version: 7", text, count=1)}, "Once more")


def _store(repo: Repo, what: str) -> None:
    """Do something to the store: lose a file, spoil one, or change a record."""
    evidence = json.loads(repo.read(EVIDENCE.format(6)))
    release, golden = evidence["release"], evidence["evaluation"]["golden"]
    file = repo.folder / "store" / blob_key(release["exports"]["onnx"])
    record = repo.folder / "store" / evaluation_key(release["weights"], golden)
    for path in (file, record):
        path.chmod(0o644)
    if what == "lose":
        file.unlink()
    elif what == "spoil":
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    else:
        record.write_text(record.read_text().replace("0.911", "0.711"))


TAMPERINGS: dict[str, Tampering] = {
    "a metric edited in the evidence": Tampering(lambda r: merge(r, _better), ("EvidenceAltered",)),
    "the same, with its new digest pinned": Tampering(
        lambda r: merge(r, lambda f: (_better(f), _pinned(f))), ("JudgementDiffers", "RecordDiffers", "TrailerForged"),
    ),
    "a metric edited later": Tampering(
        lambda r: r.commit({EVIDENCE.format(4): r.read(EVIDENCE.format(4)).replace("0.91", "0.99")}, "Tidy up"),
        ("EvidenceAltered",),
    ),
    "evidence of another form": Tampering(_edited(lambda e: e.pop("inputs")), ("EvidenceInvalid",)),
    "a commit named that asked for something else": Tampering(
        lambda r: _edited(lambda e: e["source"].update(commit=r.head("main~1")))(r), ("InputsNotAsked",)
    ),
    "a digest swapped": Tampering(lambda r: merge(r, _swapped), ("DigestDiffers",)),
    "a release without evidence": Tampering(_without_evidence, ("EvidenceMissing",)),
    "a release pushed directly": Tampering(_cherry_pick, ("NoPullRequest",), ("--require-pull-request",)),
    "an evidence file removed": Tampering(
        lambda r: r.commit({EVIDENCE.format(4): None}, "Save space"), ("EvidenceRemoved",)
    ),
    "a gate loosened in the commit that it admits": Tampering(_loosened, ("GateLoosened",), ("--offline",), 0),
    "a release that its gates refuse": Tampering(
        lambda r: (_release(r, "min: 0.9}", "min: 0.95}", "Ask for more"), merge(r, nothing)), ("GateFailed",)
    ),
    "a forged version trailer": Tampering(_trailers("Version: 7", "Version: 8"), ("TrailerForged",)),
    "a forged model trailer": Tampering(_trailers("default/digits", "default/other"), ("TrailerForged",)),
    "a forged pull request": Tampering(_trailers("Pull-Request: 8", "Pull-Request: 1"), ("TrailerForged",)),
    "a history written anew": Tampering(_reworded, ("HistoryRewritten",), ("--offline",)),
    "the end of a history cut off": Tampering(_cut_off, ("HistoryRewritten",)),
    "an edit of the bot outside its path": Tampering(lambda r: merge(r, _elsewhere), ("EditOutsidePath",)),
    "a commit in the bot's name": Tampering(
        lambda r: _release(r, "min: 0.9}", "min: 0.1}", author=TRUNKLINE), ("EditOutsidePath",)
    ),
    "a denied run used again": Tampering(_denied, ("DeniedRun",)),
    "a version used twice": Tampering(
        lambda r: _release(r, "weights: .*", f"weights: sha256:{'e' * 64}"), ("VersionReused",)
    ),
    "another release to fall back to": Tampering(
        lambda r: merge(r, lambda f: f.update({FILE: re.sub(r"(previous:\n +version:) 6", r"\1 4", str(f[FILE]))})),
        ("PreviousDiffers",),
    ),
    "a released file lost": Tampering(lambda r: _store(r, "lose"), ("ArtifactMissing",)),
    "a released file changed": Tampering(lambda r: _store(r, "spoil"), ("ArtifactCorrupt",), ("--deep",)),
    "a record of the store changed": Tampering(lambda r: _store(r, "change"), ("RecordDiffers",)),
}  # fmt: skip
"""Every one that is known, by what people would call it."""
