"""Proposals as real commits in a real repository, right or with one thing wrong, and nobody's agent in between."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapters.checkout import Checkout
from adapters.git_changes import changeset
from specs.changeset import Changeset
from specs.claims import Proof, judge
from specs.digests import digest_bytes
from specs.manifest import edit, load
from specs.modelspec import ModelKey
from specs.names import proposal_branch
from tests.support.gitrepo import Hub, git

SHELF = ModelKey("retail", "shelf-detector")
FILE = "models/shelf.yaml"
FULL = re.sub(
    r"dvc: \{.*\}|s3://datasets", lambda hit: "store:/" if hit[0].startswith("s3") else
    f'uri: {{url: "store://shelf", digest: "sha256:{"7" * 64}"}}',
    (Path(__file__).parents[1] / "specs/full.yaml").read_text(),
)  # fmt: skip
"""The whole model, with data of the one kind that can be trained on."""
FOLDER = "evidence/retail.shelf-detector/v8"
KEY = "0" * 64


def digest(character: str) -> str:
    """Give a digest that is easy to tell from others."""
    return "sha256:" + character * 64


CONTENT: dict[str, Any] = {
    "run": digest("a"), "weights": digest("b"), "exports": {"onnx": digest("c"), "trt": digest("d")},
}  # fmt: skip


def evidence(version: int = 8, content: dict[str, Any] | None = None) -> bytes:
    """Give evidence for a release."""
    told = {"model": str(SHELF), "version": version, "release": content or CONTENT}
    return json.dumps(told, sort_keys=True).encode()


_V7 = next(model for model in load(FULL, FILE)).model.spec.release
assert _V7 is not None
PREVIOUS: dict[str, Any] = {"version": 7, **_V7.content()}
DENY: list[dict[str, Any]] = [denied.model_dump(exclude_none=True) for denied in _V7.deny or ()]


def release(version: int = 8, **changes: Any) -> dict[str, Any]:
    """Give a release that this evidence is for, after v7."""
    proved = {"evidence": digest_bytes(evidence(version)), "previous": PREVIOUS, "deny": DENY}
    return {"version": version, **CONTENT, **proved, **changes}


def message(intent: str = "promote", model: str = str(SHELF)) -> str:
    """Give the message of a proposal's commit."""
    return f"{model}: {intent}\n\nTrunkline-Model: {model}\nTrunkline-Intent: {intent}\nTrunkline-Key: {KEY}\n"


class Studio:
    """A repository with the model that ``full.yaml`` describes, released as v7."""

    def __init__(self, folder: Path) -> None:
        self.hub = Hub(folder)
        self.base = self.hub.commit({FILE: FULL, "README.md": "ours\n", "other.yaml": "a: 1\n"}, "Begin")

    def branch(self, intent: str = "promote") -> str:
        """Name the branch of a proposal."""
        return proposal_branch(intent, *SHELF, KEY)

    def promote(self) -> dict[str, str | bytes | None]:
        """Give the files of a right promotion to v8."""
        text = edit(FULL, SHELF, "spec.release", release())
        return {FILE: text, f"{FOLDER}/evidence.json": evidence(), f"{FOLDER}/report.md": "# v8\n"}

    def push(
        self, files: dict[str, str | bytes | None], text: str | None = None, *, branch: str | None = None,
        before: Callable[[Path], object] = lambda clone: None,
    ) -> Changeset:  # fmt: skip
        """Commit files on a branch begun at the base; ``before`` may do what files cannot say."""
        name = branch or self.branch()
        git(self.hub.clone, "checkout", "-q", "-B", name, self.base)
        before(self.hub.clone)
        self.hub.commit(files, text or message(), branch=name)
        return self.seen(name)

    def seen(self, branch: str, base: str | None = None) -> Changeset:
        """Look at a branch of the bare repository as a CI job would."""
        objects = Checkout(self.hub.path)
        return changeset(objects, base or self.base, objects.resolve(self.hub.head(branch)), branch)

    def judged(self, change: Changeset) -> Proof:
        """Ask for the proof."""
        objects = Checkout(self.hub.path)
        return judge(change, lambda blob: objects.blobs([blob])[blob])
