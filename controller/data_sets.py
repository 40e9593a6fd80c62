"""Data sets as people ask for them: by digest, or by the model whose ModelSpec names them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.source_git import GitSource
from adapters.store import Store
from controller import wiring
from controller.console import pick
from controller.named_data import manifest_digest
from controller.settings import Settings
from specs import addresses
from specs.data import Source
from specs.datasets import read_manifest
from specs.digests import hex_of
from specs.errors import Stalled
from specs.manifest import parse
from specs.modelspec import ModelKey, Spec, Task
from specs.records import DatasetManifest, dataset_key

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})")
_PLACE = "datasets/sha256/"


@dataclass(frozen=True)
class Reference:
    """A place on the tracked branch that names a data set."""

    model: ModelKey
    part: str
    """``train``, ``golden`` or ``calibration``."""
    source: Source
    task: Task
    manifest: str | None
    """Digest of what it stands for in the store; None where it is not pinned, or was never fetched."""

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.model} {self.part}"


def models(settings: Settings) -> dict[ModelKey, Spec]:
    """Fetch, and give all ModelSpecs of the tracked branch that can be acted on."""
    source = GitSource(wiring.repository(settings), prefix=settings.prefix)
    source.refresh()
    found = [each for each in map(source.get, source.keys()) if each is not None]
    return {each.key: parse(each.text, each.path, each.key).model.spec for each in found}


def references(store: Store, specs: Mapping[ModelKey, Spec]) -> list[Reference]:
    """Give every reference to data that models make; training data before golden."""
    return [
        Reference(key, part, source, spec.task, manifest_digest(store, source, spec.task))
        for key, spec in specs.items()
        for field, source in spec.data.named for part in (field.rpartition(".")[2],)
    ]  # fmt: skip


def digests(store: Store) -> list[str]:
    """Give the digests of all data sets in the store, sorted."""
    return [f"sha256:{key.removeprefix(_PLACE).removesuffix('.json')}" for key in store.list(_PLACE)]


def manifest(store: Store, digest: str) -> DatasetManifest:
    """Read a data set's manifest, verified; Stalled ``DatasetMissing``, CorruptArtifact."""
    return read_manifest(store.read(dataset_key(digest)), digest)


def find(settings: Settings, store: Store, text: str) -> str:
    """Give the digest of what a person means: a digest, of which eight digits are enough, or a model's training data.

    ``MODEL:golden`` is its golden set. Stalled ``DatasetUnknown``, ``NoSuchModel``, or ``DatasetMissing`` where what a
    model names is not in the store.
    """
    asked = _DIGEST.fullmatch(text)
    if asked is not None:
        return _matching(digests(store), asked[1])
    name, _, part = text.partition(":")
    specs = models(settings)
    key = pick(specs, name)
    for each in references(store, {key: specs[key]}):
        if each.part == (part or "train") and each.manifest is not None:
            return each.manifest
    words = f"what {key} names as {part or 'train'} is not in the store; `trunkline status {key}` says why"
    raise Stalled("DatasetMissing", words)


def _matching(known: Sequence[str], asked: str) -> str:
    found = [digest for digest in known if hex_of(digest).startswith(asked)]
    if len(found) == 1:
        return found[0]
    what = f"is that of {len(found)} data sets; give more of it" if found else "is that of no data set in the store"
    raise Stalled("DatasetUnknown", f"digest {asked} {what}; `trunkline data list` shows them")


def place(source: Source) -> str:
    """Say in a few words where a source has its data; without what may be a secret."""
    if source.dvc is not None:
        revision = source.dvc.target_revision
        short = revision[:12] if re.fullmatch(r"[0-9a-f]{40,64}", revision) else revision
        return f"{source.dvc.path} at {short} of {_shown(source.dvc.repo_url)}"
    if source.uri is not None:
        return addresses.shown(source.uri.url)
    platform = source.platform
    return "" if platform is None else f"{platform.uri} version {platform.version or 'newest'}"


def _shown(repository: str) -> str:
    """Give a repository's address: folder, URL or ``user@host:path``."""
    return addresses.shown(repository) if "://" in repository else repository
