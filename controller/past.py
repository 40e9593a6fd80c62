"""The past as the commands see it: the mirror brought up to date, its chronicle, and who can be asked besides git."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from adapters.artifact_signatures import check_release
from adapters.forge_local import LocalForge
from adapters.history_git import GitHistory
from adapters.repository import Repository
from adapters.store import Store
from controller import forges, wiring
from controller.console import pick
from controller.settings import Settings
from controller.vouching import signatures as signatures_of_commits
from reconcilers.chronicle import Chronicle, Event, chronicle
from reconcilers.proving_store import Unsigned
from reconcilers.vetting import flaw
from specs.errors import Stalled, Transient
from specs.facts import PullRequest
from specs.modelspec import ModelKey
from specs.past import Step

ASKED, NOT_ASKED = "asked", "not asked"


@dataclass(frozen=True)
class Past:
    """What was asked for, up to the tracked branch's newest commit."""

    repository: Repository
    head: str
    story: Chronicle
    keys: tuple[ModelKey, ...]
    """The models that were asked for, sorted; those that are gone too."""

    def events(self) -> list[Event]:
        """Give their releases, model by model, oldest first."""
        return [event for key in self.keys for event in self.story.events.get(key, [])]


def told(settings: Settings, model: str | None = None, *, whole: bool = False) -> Past:
    """Fetch, and read the past of all models or of one; Stalled ``NoSuchModel`` where it never was.

    ``whole``: read the others too, for what can only be told of all together.
    """
    repository = wiring.repository(settings)
    head = repository.fetch()
    only = model.rpartition("/")[2] if model and not whole else ""
    story = chronicle(GitHistory(repository), head, settings.prefix, only)
    known = sorted({moment.key for moment in story.moments})
    if model is None:
        return Past(repository, head, story, tuple(known))
    if not any(model in (key.name, str(key)) for key in known):
        known = sorted({m.key for m in chronicle(GitHistory(repository), head, settings.prefix).moments})
    return Past(repository, head, story, (pick(known, model),))


def release(past: Past, version: int | None) -> Event:
    """Give one release of the one model that was asked for; the newest without a version."""
    (key,) = past.keys
    found = past.story.find(key, version)
    if found is None:
        there = [f"v{e.release.version}" for e in past.story.events.get(key, []) if e.release and e.how != "went back"]
        what = f"v{version} of {key}" if version is not None else f"release of {key}"
        raise Stalled("NoSuchRelease", f"there never was a {what}; there are: {', '.join(there) or 'none'}")
    return found


def pulls(
    settings: Settings, steps: Iterable[Step], *, approvals: bool = False
) -> tuple[tuple[PullRequest, ...] | None, str]:
    """Give the pull requests that brought commits, by merge commit, and how far the forge could be asked.

    The embedded forge gives every pull request there ever was. None where no forge can be asked. ``approvals``: ask who
    approved them, too.
    """
    try:
        forge = forges.forge(settings)
        if isinstance(forge, LocalForge):
            return forge.list(""), ASKED
        known = {pull.merge_commit: pull for pull in forge.list() if pull.merge_commit}
        for step in steps:
            pull = known.get(step.sha) or forge.pull_of(step.sha)
            if pull is not None:
                yes = tuple(forge.approvals(pull.number)) if approvals else pull.approved_by
                known[step.sha] = replace(pull, merge_commit=step.sha, approved_by=yes)
        return tuple(known.values()), ASKED
    except Transient as error:
        return None, f"cannot be reached: {error.message}"
    except Stalled:
        return None, NOT_ASKED


def unsigned_commits(settings: Settings, past: Past, steps: Iterable[Step]) -> dict[str, str] | None:
    """Give commit to what is wrong with its signature, where something is; None where none is required."""
    if not settings.provenance.require_signed:
        return None
    signatures = signatures_of_commits(settings, past.repository)
    found = {step.sha: flaw(signatures.of(step.sha)) for step in steps}
    return {sha: words for sha, words in found.items() if words}


def unsigned_files(settings: Settings, store: Store) -> Unsigned | None:
    """Give what finds the files of a release that no trusted key signed; None where none is trusted."""
    trusted = settings.signing.trusted
    if not trusted:
        return None
    return lambda pin: [(c.what, c.file, c.message) for c in check_release(store, pin, trusted) if c.reason]
