"""``spec.training``, ``spec.tuning`` and ``spec.tracking``: how weights come about."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from specs.base import Args, Number, Scalar, Section
from specs.data import UriSource
from specs.digests import PlainText

RESERVED_ARGS = frozenset({
    "cfg", "data", "exist_ok", "mode", "model", "name", "project", "resume", "save", "save_dir", "source", "task",
    "tracker",
})  # fmt: skip
"""Ultralytics arguments that name places or the job itself; Trunkline sets them."""

ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\.(yaml|pt)$")]


class BaseModelFile(Section):
    """Weights to start from that Ultralytics does not publish."""

    uri: UriSource


class Resources(Section):
    """Kubernetes resource amounts; the agent honours none of them, the cluster all."""

    limits: dict[str, str] | None = None
    requests: dict[str, str] | None = None


class Training(Section):
    """One training: these fields, the data and the task decide the weights."""

    model: ModelName | BaseModelFile
    """An Ultralytics name (``yolo26n.yaml`` starts from nothing, ``yolo26n.pt`` from published weights) or a file."""
    args: Args = {}
    """Ultralytics training arguments, verbatim; the trainer's own defaults check the names."""
    resources: Resources | None = None
    node_selector: dict[str, str] | None = None
    backend: Literal["Job", "TrainJob"] | None = None
    queue_name: PlainText | None = None
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    nonce: Annotated[PlainText, Field(max_length=64)] = ""
    """Change it by pull request to train the same inputs again."""
    runtime: PlainText | None = None
    """Pins the trainer (an image or a package version); an input only where it is given."""

    @field_validator("args")
    @classmethod
    def _not_reserved(cls, args: Args) -> Args:
        taken = sorted(RESERVED_ARGS & args.keys())
        if taken:
            msg = f"{', '.join(taken)}: Trunkline sets this itself; remove it"
            raise ValueError(msg)
        return args


class Objective(Section):
    """What a tuning makes better."""

    type: Literal["maximize", "minimize"]
    metric: PlainText
    goal: Number | None = None


class Parameter(Section):
    """One dimension of the search space."""

    name: PlainText
    type: Literal["double", "int", "categorical"]
    min: Number | None = None
    max: Number | None = None
    scale: Literal["linear", "log"] | None = None
    values: list[Scalar] | None = None


class Tuning(Section):
    """AutoML: a search over training arguments whose result comes back as a pull request."""

    objective: Objective
    parameters: Annotated[list[Parameter], Field(min_length=1, max_length=64)]
    max_trial_count: Annotated[int, Field(ge=1)]
    parallel_trial_count: Annotated[int, Field(ge=1)] | None = None
    max_failed_trial_count: Annotated[int, Field(ge=0)] | None = None
    algorithm: Literal["tpe", "random", "genetic"] | None = None
    trial_args: Args | None = None
    """Training arguments of trials that differ from ``training.args``, such as fewer epochs."""
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    """Of the whole search; what was found until then is the answer."""
    nonce: Annotated[PlainText, Field(max_length=64)] = ""
    """Change it by pull request to search the same space again."""


class MLflow(Section):
    """Where to mirror runs to; nothing there can drive production."""

    tracking_uri: Annotated[str, Field(min_length=1)]
    experiment: PlainText | None = None


class Tracking(Section):
    """Experiment tracking, always one way: out."""

    mlflow: MLflow | None = None
    tensorboard: bool | None = None
