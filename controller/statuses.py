"""Status of the agent's models, one JSON file each: a cache that may be deleted at any time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from adapters.processes import write_text
from specs.modelspec import ModelKey
from specs.status import ModelStatus


class Statuses:
    """The one place where the agent writes status, and where the command line reads it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, key: ModelKey) -> ModelStatus:
        """Give the last status; an empty one where there is none, or none that can be read."""
        try:
            return ModelStatus.model_validate_json(self._file(key).read_bytes())
        except (OSError, ValidationError):
            return ModelStatus()

    def write(self, key: ModelKey, status: ModelStatus) -> bool:
        """Keep a status if it says something new; True if it did."""
        if status == self.read(key):
            return False
        self._folder.mkdir(parents=True, exist_ok=True)
        write_text(self._file(key), status.model_dump_json(by_alias=True, exclude_defaults=True, indent=1) + "\n")
        return True

    def remove_others(self, keys: set[ModelKey]) -> None:
        """Forget models that are gone."""
        for key, _ in list(self.items()):
            if key not in keys:
                self._file(key).unlink(missing_ok=True)

    def items(self) -> Iterator[tuple[ModelKey, ModelStatus]]:
        """Give all models with a status, by name."""
        for file in sorted(self._folder.glob("*.json")):
            namespace, _, name = file.stem.partition(".")
            key = ModelKey(namespace, name)
            yield key, self.read(key)

    def _file(self, key: ModelKey) -> Path:
        return self._folder / f"{key.namespace}.{key.name}.json"
