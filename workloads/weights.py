"""Trained weights as a file that says what was learned and nothing else: equal trainings give equal bytes.

Ultralytics writes into its checkpoints when and where they were made: a date, the time each epoch took, this machine's
folders, and the git repository around the interpreter. All that is in the run's record, as far as it matters; in the
file it would give every training another digest, and tell strangers about the machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_OF_THE_MOMENT = ("date", "git")
_PLACES = ("project", "save_dir", "name")


def settle(path: Path) -> None:
    """Rewrite a checkpoint that this process trained, without what differs between two equal trainings."""
    import torch

    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)  # written by ourselves
    for name in _OF_THE_MOMENT:
        checkpoint.pop(name, None)
    (checkpoint.get("train_results") or {}).pop("time", None)
    vars(checkpoint["model"]).pop("pt_path", None)  # where it was read, of a model that was resumed
    for args in (checkpoint.get("train_args"), getattr(checkpoint["model"], "args", None)):
        if isinstance(args, dict):
            _forget_places(args)
    torch.save(checkpoint, path)


def _forget_places(args: dict[str, Any]) -> None:
    for name in _PLACES:
        args.pop(name, None)
    if isinstance(args.get("model"), str):
        args["model"] = Path(args["model"]).name  # the base model's own digest is in the run's record
