"""ModelSpec: one model, from data to monitoring, as one resource of the Kubernetes API."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, model_validator

from specs.base import Args, Name, Section
from specs.data import Data, Source
from specs.digests import digest_of
from specs.exports import Export, Gate
from specs.monitoring import Labelling, Monitoring, OnData, Triggers
from specs.release import Pin, Policy, Release
from specs.serving import Serving
from specs.training import BaseModelFile, Tracking, Training, Tuning

API_VERSION = "trunkline.dev/v1alpha1"
KIND = "ModelSpec"
Task = Literal["detect", "segment", "classify", "pose", "obb"]

MAIN_METRIC: dict[str, str] = {
    "classify": "metrics/accuracy_top1",
    "detect": "metrics/mAP50-95(B)",
    "segment": "metrics/mAP50-95(M)",
    "pose": "metrics/mAP50-95(P)",
    "obb": "metrics/mAP50-95(B)",
}
"""The metric that parity and summaries mean when the spec names none."""


class ModelKey(NamedTuple):
    """Namespace and name: what tells one model from another."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Spec(Section):
    """What a team asks for."""

    task: Task
    suspend: bool = False
    data: Data
    training: Training
    tuning: Tuning | None = None
    tracking: Tracking | None = None
    exports: Annotated[list[Export], Field(min_length=1, max_length=32)]
    gates: Annotated[list[Gate], Field(max_length=128)] = []
    serving: Serving | None = None
    monitoring: Monitoring | None = None
    triggers: Triggers | None = None
    labelling: Labelling | None = None
    release: Release | None = None
    policy: Policy | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [export.name for export in self.exports]
        gates = [gate.name for gate in self.gates]
        signals = [signal.name for signal in self.monitoring.signals] if self.monitoring else []
        for what, given in (("exports", names), ("gates", gates), ("monitoring.signals", signals)):
            twice = sorted({name for name in given if given.count(name) > 1})
            if twice:
                msg = f"{what}: {', '.join(twice)} is given twice; names must differ"
                raise ValueError(msg)
        wanted = {gate.export for gate in self.gates if gate.export}
        wanted |= {self.serving.export} if self.serving else set()
        unknown = sorted(wanted - set(names))
        if unknown:
            msg = f"no export is named {', '.join(unknown)}; spec.exports has {', '.join(names)}"
            raise ValueError(msg)
        quality = [gate.name for gate in self.gates if gate.needs_golden]
        if quality and self.data.golden is None:
            msg = f"gates {', '.join(quality)} measure quality, which needs spec.data.golden"
            raise ValueError(msg)
        unwatched = [name for name in self.triggers.named if name not in signals] if self.triggers else []
        if unwatched:
            there = f"has {', '.join(signals)}" if signals else "is not there"
            msg = f"triggers.onSignal: no signal is named {', '.join(unwatched)}; spec.monitoring.signals {there}"
            raise ValueError(msg)
        return self

    def inputs(self) -> dict[str, Any]:
        """Give everything that decides the weights, as plain JSON values; their digest is the inputsDigest."""
        model = self.training.model
        inputs: dict[str, Any] = {
            "v": 1,
            "task": self.task,
            "data": self.data.train.digest,
            "model": {"digest": model.uri.digest} if isinstance(model, BaseModelFile) else {"name": model},
            "args": dict(self.training.args),
            "nonce": self.training.nonce,
        }
        if self.training.runtime is not None:
            inputs["runtime"] = self.training.runtime
        return inputs

    @property
    def inputs_digest(self) -> str:
        """The name of the run that this spec asks for."""
        return digest_of(self.inputs())

    @property
    def pins(self) -> list[Pin]:
        """What is released, and what was before it, as far as there are any."""
        return [pin for pin in (self.release, self.release.previous if self.release else None) if pin is not None]

    @property
    def unpinned(self) -> list[tuple[str, Source]]:
        """Field and source of every reference outside the store that has no digest yet."""
        named = self.data.named
        return [(field, source) for field, source in named if source.digest is None and not source.in_store]

    @property
    def follows(self) -> OnData | None:
        """Where newer versions of the training data are looked for; None where nobody asks, or there are none."""
        return self._followed(self.triggers.on_data if self.triggers else None)

    @property
    def newer_from(self) -> OnData | None:
        """Likewise, where a signal or a schedule may ask for newer data as well."""
        given = self.triggers
        return self._followed(given.on_data or bool(given.on_signal or given.schedule) if given else None)

    def _followed(self, wanted: bool | OnData | None) -> OnData | None:  # noqa: FBT001  as the file has it
        if not wanted or self.data.train.digest is None or not self.data.train.has_versions:
            return None
        return wanted if isinstance(wanted, OnData) else OnData()

    @property
    def image_size(self) -> int | list[int] | None:
        """``imgsz`` of training, which evaluation and export share; None means the trainer's default."""
        return image_size(self.training.args)


def image_size(args: Args) -> int | list[int] | None:
    """Give ``imgsz`` of training arguments.

    None also for what is no size at all: the trainer refuses that, so nothing ever comes of it.
    """
    size = args.get("imgsz")
    if isinstance(size, list):
        sides = [side for side in size if isinstance(side, int) and not isinstance(side, bool)]
        return sides if len(sides) == len(size) > 0 else None
    if isinstance(size, float) and size.is_integer():
        return int(size)
    return size if isinstance(size, int) and not isinstance(size, bool) else None


class Metadata(Section):
    """The part of Kubernetes object metadata that means something here; the rest is kept and ignored."""

    model_config = ConfigDict(extra="allow")
    name: Name
    namespace: Name = "default"


class ModelSpec(Section):
    """The custom resource."""

    api_version: Literal["trunkline.dev/v1alpha1"]
    kind: Literal["ModelSpec"]
    metadata: Metadata
    spec: Spec

    @property
    def key(self) -> ModelKey:
        """Namespace and name."""
        return ModelKey(self.metadata.namespace, self.metadata.name)
