"""``spec.training``, ``spec.tuning`` and ``spec.tracking``: how weights come about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from specs.base import Args, Name, Number, Scalar, Section
from specs.data import UriSource
from specs.digests import PlainText, canonical

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


def gpus(limits: Mapping[str, str] | None) -> int:
    """Count the whole GPUs among limits, whoever makes them: ``nvidia.com/gpu``, ``amd.com/gpu``."""
    named = [amount for name, amount in (limits or {}).items() if name.endswith("/gpu")]
    return sum(int(amount) for amount in named if amount.isdecimal())


class RuntimeRef(Section):
    """A training runtime of Kubeflow Trainer."""

    name: Name
    kind: Literal["ClusterTrainingRuntime", "TrainingRuntime"] | None = None
    """``ClusterTrainingRuntime`` where it is not given."""


class TrainJob(Section):
    """What a training asks of Kubeflow Trainer, where ``backend`` is ``TrainJob``."""

    runtime_ref: RuntimeRef | None = None
    """``torch-distributed`` where it is not given."""
    num_nodes: Annotated[int, Field(ge=1)] | None = None
    num_proc_per_node: Annotated[int, Field(ge=1)] | None = None
    """As many as each node has GPUs, else one, where it is not given."""


class Training(Section):
    """One training: these fields, the data and the task decide the weights."""

    model: ModelName | BaseModelFile
    """An Ultralytics name (``yolo26n.yaml`` starts from nothing, ``yolo26n.pt`` from published weights) or a file."""
    args: Args = {}
    """Ultralytics training arguments, verbatim; the trainer's own defaults check the names."""
    resources: Resources | None = None
    node_selector: dict[str, str] | None = None
    backend: Literal["Job", "TrainJob"] | None = None
    train_job: TrainJob | None = None
    queue_name: PlainText | None = None
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    nonce: Annotated[PlainText, Field(max_length=64)] = ""
    """Change it by pull request to train the same inputs again."""
    runtime: PlainText | None = None
    """Pins the trainer (an image or a package version); an input only where it is given."""

    @property
    def processes(self) -> int:
        """How many processes share the training in a cluster: one for each GPU of each node."""
        here = gpus(self.resources.limits if self.resources else None) or 1
        if self.backend != "TrainJob":
            return here
        asked = self.train_job or TrainJob()
        return (asked.num_nodes or 1) * (asked.num_proc_per_node or here)

    @field_validator("args")
    @classmethod
    def _not_reserved(cls, args: Args) -> Args:
        taken = sorted(RESERVED_ARGS & args.keys())
        if taken:
            msg = f"{', '.join(taken)}: Trunkline sets this itself; remove it"
            raise ValueError(msg)
        return args


class Objective(Section):
    """What a tuning makes better: a metric that Ultralytics tells after each epoch, on the training data's ``val``."""

    type: Literal["maximize", "minimize"]
    metric: Annotated[PlainText, Field(min_length=1, max_length=128)]
    goal: Number | None = None
    """As good as this is good enough: the search ends."""


ArgumentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class Parameter(Section):
    """One dimension of the search space: a training argument and the values it may have."""

    name: ArgumentName
    """Of an Ultralytics argument, as in ``training.args``."""
    type: Literal["double", "int", "discrete", "categorical"]
    min: Number | None = None
    max: Number | None = None
    step: Annotated[Number, Field(gt=0)] | None = None
    """Distance between values, from ``min`` on; without it a double may be anything, an int any whole number."""
    scale: Literal["linear", "log"] | None = None
    """``log``: as many trials between 0.001 and 0.01 as between 0.01 and 0.1."""
    values: Annotated[list[Scalar], Field(min_length=2, max_length=100)] | None = None
    """Of a discrete or categorical parameter."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problem = self._problem_of_range() if self.type in ("double", "int") else self._problem_of_values()
        if self.name in RESERVED_ARGS:
            problem = "Trunkline sets this itself; it cannot be searched"
        if problem:
            msg = f"{self.name}: {problem}"
            raise ValueError(msg)
        return self

    def _problem_of_range(self) -> str:
        """Say what is wrong with the range of a double or int; empty where nothing is."""
        if self.values is not None:
            return f"values are for discrete and categorical parameters; give min and max to {self.type}"
        if self.min is None or self.max is None:
            return f"{self.type} needs min and max"
        if self.min >= self.max:
            return f"min {self.min:g} must be less than max {self.max:g}"
        given = [value for value in (self.min, self.max, self.step) if value is not None]
        if self.type == "int" and not all(value.is_integer() and abs(value) < 2**53 for value in given):
            return "int needs whole numbers for min, max and step"
        if self.scale == "log" and self.min <= 0:
            return f"a log scale needs min above 0, but it is {self.min:g}"
        if self.scale == "log" and self.step is not None:
            return "a log scale has no steps; remove step, or use a linear scale"
        if self.step is not None and self.step > self.max - self.min:
            return f"step {self.step:g} leaves only min between {self.min:g} and {self.max:g}"
        return ""

    def _problem_of_values(self) -> str:
        """Say what is wrong with the values of a discrete or categorical parameter; empty where nothing is."""
        given = [name for name in ("min", "max", "step", "scale") if getattr(self, name) is not None]
        if given:
            return f"{', '.join(given)}: only for double and int; list the values of {self.type}"
        if self.values is None:
            return f"{self.type} needs values, at least two"
        if len({canonical(value) for value in self.values}) < len(self.values):
            return "a value is given twice"
        numbers = [value for value in self.values if isinstance(value, int | float) and not isinstance(value, bool)]
        if any(not math.isfinite(value) for value in numbers):
            return "values must be finite"
        if self.type == "discrete" and len(numbers) < len(self.values):
            return "discrete needs numbers; use categorical for words"
        return ""


class EarlyStopping(Section):
    """Ends a trial that is worse, at the same epoch, than the median of those that went to their end."""

    algorithm: Literal["median"] | None = None
    min_trials_required: Annotated[int, Field(ge=1)] | None = None
    """Trials that went to their end before any other is cut short; 3."""
    start_step: Annotated[int, Field(ge=1)] | None = None
    """The first epoch after which a trial may be cut short; 4."""


class Tuning(Section):
    """AutoML: a search over training arguments whose result comes back as a pull request."""

    objective: Objective
    parameters: Annotated[list[Parameter], Field(min_length=1, max_length=64)]
    max_trial_count: Annotated[int, Field(ge=1, le=10_000)]
    """Trials in all; the first one has the arguments as they are, for comparison."""
    parallel_trial_count: Annotated[int, Field(ge=1, le=64)] | None = None
    """Trials that run at once; 1."""
    max_failed_trial_count: Annotated[int, Field(ge=0)] | None = None
    """More failures end the search without an answer; half of ``maxTrialCount``."""
    algorithm: Literal["tpe", "random", "genetic"] | None = None
    """``tpe`` where it is not given."""
    early_stopping: EarlyStopping | None = None
    trial_args: Args | None = None
    """Training arguments of trials that differ from ``training.args``, such as fewer epochs; never proposed."""
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    """Of the whole search, from its first beginning; what was found until then is the answer."""
    nonce: Annotated[PlainText, Field(max_length=64)] = ""
    """Change it by pull request to search the same space again."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [parameter.name for parameter in self.parameters]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            msg = f"parameters: {', '.join(twice)} is given twice"
            raise ValueError(msg)
        taken = sorted(RESERVED_ARGS & (self.trial_args or {}).keys())
        if taken:
            msg = f"trialArgs: {', '.join(taken)}: Trunkline sets this itself; remove it"
            raise ValueError(msg)
        fixed = sorted(set(names) & (self.trial_args or {}).keys())
        if fixed:
            msg = f"trialArgs: {', '.join(fixed)} is a parameter of the search and cannot be fixed as well"
            raise ValueError(msg)
        for field, count in (("parallel", self.parallel_trial_count), ("maxFailed", self.max_failed_trial_count)):
            if count is not None and count > self.max_trial_count:
                msg = f"{field}TrialCount {count} is more than maxTrialCount {self.max_trial_count}"
                raise ValueError(msg)
        return self

    @property
    def parallel(self) -> int:
        """Trials at once."""
        return self.parallel_trial_count or 1

    @property
    def failures_allowed(self) -> int:
        """Failed trials that the search survives."""
        allowed = self.max_failed_trial_count
        return self.max_trial_count // 2 if allowed is None else allowed

    def better(self, one: float, other: float) -> bool:
        """Whether one value of the objective is strictly better than another."""
        return one > other if self.objective.type == "maximize" else one < other


TrackingUri = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$", max_length=2048)]
"""Root of a tracking server. Never with credentials: ``[tracking] token_file`` has them."""


class MLflow(Section):
    """Where to mirror runs to; nothing there can drive production."""

    tracking_uri: TrackingUri
    experiment: Annotated[PlainText, Field(min_length=1, max_length=500)] | None = None
    """Where its runs are; the model's name at the server where it is not given."""


class Tracking(Section):
    """Experiment tracking, always one way: out."""

    mlflow: MLflow | None = None
    tensorboard: bool | None = None
