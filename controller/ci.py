"""``trunkline ci``, without its words: finds out about a pull request, and says it where people look.

Nothing of the pull request is ever run: its files are read as git objects, by a program that was installed before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from adapters.git_changes import changeset
from controller.whatif import Models, View, consequences
from reconcilers.ci_report import MARKER, Findings, checks, comment
from reconcilers.ports import Reviews
from specs.changeset import Changeset
from specs.claims import judge
from specs.coverage import not_acted_on
from specs.errors import InvalidManifest, TrunklineError
from specs.hand_edits import hand_edits
from specs.manifest import parse
from specs.modelspec import ModelKey
from specs.release import Release


def investigate(view: View, base: str, head: str, branch: str, now: float) -> Findings:
    """Find out everything about merging ``head`` (of ``branch``) into ``base``; both are full commit names."""
    change = changeset(view.git, base, head, branch)
    answer = consequences(view, base, head, now)
    read = partial(_content, view)
    earlier = partial(_earlier, view, change, answer.before)
    hand = hand_edits(_releases(answer.before), _releases(answer.after), earlier, change.files, read)
    before = {(p.path, p.field, p.message) for p in answer.before.problems}
    new = tuple(p for p in answer.after.problems if (p.path, p.field, p.message) not in before)
    return Findings(
        base=base, head=head, models=len(answer.after.specs), problems=new,
        older=len(answer.after.problems) - len(new), notes=tuple(_notes(change, answer.after)),
        consequences=answer.consequences, proof=judge(change, read), hand=hand, blind=view.store is None,
    )  # fmt: skip


def _content(view: View, blob: str) -> bytes:
    return view.git.blobs([blob])[blob]


def _releases(models: Models) -> dict[ModelKey, Release | None]:
    return {key: spec.release for key, (_, spec) in models.specs.items()}


def _earlier(view: View, change: Changeset, before: Models, key: ModelKey) -> list[Release]:
    """Give every release that the target branch ever named for a model, oldest first, wherever its file lay then."""
    if key not in before.specs:
        return []
    path = before.specs[key][0].path
    steps = [step for step in view.git.changes(change.base, path) if step.blob and step.path == path]
    blobs = view.git.blobs(step.blob for step in steps if step.blob)
    found = []
    for step in reversed(steps):
        try:
            release = parse(blobs[step.blob or ""].decode(errors="replace"), path, key).model.spec.release
        except InvalidManifest:
            continue
        if release is not None:
            found.append(release)
    return found


def _notes(change: Changeset, after: Models) -> Iterator[str]:
    """Say of the models in changed files what of them is not acted on."""
    touched = {file.path for file in change.files}
    for key, (sourced, spec) in sorted(after.specs.items()):
        if sourced.path in touched:
            yield from (f"{key}: {sentence}" for sentence in not_acted_on(spec))


def publish(reviews: Reviews, number: int, found: Findings, url: str) -> list[str]:
    """Put the comment and the checks where people look. What cannot be put is told, and holds nothing up.

    Without a number (a merge queue) there are only checks.
    """
    acts: list[tuple[str, Callable[[], None]]] = []
    if number:
        acts.append(("the comment", lambda: reviews.say(number, comment(found), marker=MARKER)))
    acts += [(f"the check {check.name}", partial(reviews.report, found.head, check)) for check in checks(found, url)]
    return list(_troubles(acts))


def _troubles(acts: Sequence[tuple[str, Callable[[], None]]]) -> Iterator[str]:
    for what, act in acts:
        try:
            act()
        except TrunklineError as error:
            yield f"{what} could not be written: {error.message}"
