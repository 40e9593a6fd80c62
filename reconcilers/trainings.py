"""Every training that the tracked branch ever asked for about one model, and what it is to the model now. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from reconcilers.chronicle import Chronicle
from specs.digests import short
from specs.modelspec import ModelKey


@dataclass(frozen=True)
class Training:
    """One set of inputs."""

    inputs_digest: str
    label: str
    """``v3-1a2b3c4d5e6f`` for the run of a release (the first one), ``candidate-…`` for what is asked for now where
    that is not released, ``unreleased-…`` for others. A file name; no two are alike."""
    versions: tuple[int, ...] = ()
    """Releases of its run."""

    def is_called(self, word: str) -> bool:
        """Whether people mean it by ``v3``, ``candidate``, or the first four or more digits of its inputs digest."""
        names = {self.label.partition("-")[0], *(f"v{version}" for version in self.versions)}
        digits = word.removeprefix("sha256:")
        return word in names or (len(digits) >= 4 and self.inputs_digest.startswith(f"sha256:{digits}"))


def trainings(story: Chronicle, key: ModelKey) -> tuple[Training, ...]:
    """Give them in the order in which they were first asked for."""
    said = [moment.after for moment in story.moments if moment.key == key and moment.after is not None]
    pins = [event.release for event in story.events.get(key, []) if event.release is not None]
    wanted = dict.fromkeys([*(each.spec.inputs_digest for each in said), *(pin.run for pin in pins)])
    now = said[-1].spec.inputs_digest if said else ""
    found = []
    for digest in wanted:
        versions = tuple(sorted({pin.version for pin in pins if pin.run == digest}))
        role = f"v{versions[0]}" if versions else "candidate" if digest == now else "unreleased"
        found.append(Training(digest, f"{role}-{short(digest)}", versions))
    return tuple(found)
