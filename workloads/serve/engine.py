"""What every runtime must offer to be served: what it takes, what it gives, and running it. Loads no runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from specs.errors import Stalled
from workloads.serve.answers import Refusal
from workloads.serve.tensors import DATATYPES, Array, datatype_of

ANY = -1
TOLERANCES = {"fp32": 0.0, "fp16": 0.02}
"""Of answers, absolute and relative, by the precision in which they were calculated; self-tests allow more at will."""


class EngineFailure(Exception):
    """The runtime could not carry out an inference that fits the model's signature."""


@dataclass(frozen=True)
class Signature:
    """One input or output. ``shape`` has -1 where any size will do."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def takes(self, array: Array) -> bool:
        """Whether an array is of this type and shape, and holds at least one value."""
        return (
            array.dtype == DATATYPES[self.datatype]
            and array.ndim == len(self.shape)
            and array.size > 0
            and all(want in (ANY, have) for want, have in zip(self.shape, array.shape, strict=True))
        )

    def describe(self) -> dict[str, object]:
        """Give the form that protocol metadata has."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


class Engine(Protocol):
    """A loaded model. ``run`` may be called from any thread, by several at once."""

    inputs: tuple[Signature, ...]
    outputs: tuple[Signature, ...]
    batched: bool
    """Whether rows of several requests may go through in one inference."""
    platform: str
    """The protocol's word for runtime and format, as in ``onnxruntime_onnx``."""
    runtime: str
    """What runs it, for people: runtime, version and device."""
    tolerance: float
    """How far its answers may be from recorded ones at least, for the precision in which it calculates."""
    memory: int
    """Bytes that it takes, as far as anybody knows; an estimate."""
    most_rows: int
    """Of one inference; 0 where it takes any number."""
    parallel: bool
    """Whether several threads may ``run`` at once."""

    def check(self, inputs: Mapping[str, Array], outputs: Mapping[str, object] | None) -> int:
        """Give the number of rows; Refusal 400 where a request does not fit the model."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Give all outputs by name; EngineFailure where the runtime fails."""


class Declared:
    """What an engine says of itself, and the check of requests against it: the same for every runtime."""

    platform = ""
    runtime = ""
    tolerance = 0.0
    memory = 0
    most_rows = 0
    parallel = False

    def __init__(self, inputs: tuple[Signature, ...], outputs: tuple[Signature, ...]) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._output_names = [output.name for output in outputs]
        self.batched = all(part.shape[:1] == (ANY,) for part in (*inputs, *outputs))

    def check(self, inputs: Mapping[str, Array], outputs: Mapping[str, object] | None) -> int:
        """Give the number of rows; Refusal 400 where a request does not fit the model."""
        for signature in self.inputs:
            given = inputs.get(signature.name)
            if given is None or not signature.takes(given):
                raise _unfit(signature, given)
        if len(inputs) != len(self.inputs):
            extra = sorted(inputs.keys() - {part.name for part in self.inputs})
            names = ", ".join(part.name for part in self.inputs)
            raise Refusal(400, f"the model has no input {', '.join(extra)}; it takes {names}")
        unknown = sorted((outputs or {}).keys() - set(self._output_names))
        if unknown:
            names = ", ".join(self._output_names)
            raise Refusal(400, f"the model has no output {', '.join(unknown)}; it gives {names}")
        rows = {inputs[part.name].shape[0] for part in self.inputs} if self.batched else {1}
        if len(rows) != 1:
            raise Refusal(400, f"all inputs must have the same number of rows; found {sorted(rows)}")
        return rows.pop()


@dataclass(frozen=True)
class Facts:
    """What an engine says of itself; enough to know it by while it is not in memory."""

    inputs: tuple[Signature, ...]
    outputs: tuple[Signature, ...]
    platform: str
    runtime: str
    memory: int


def facts_of(engine: Engine) -> Facts:
    """Give what an engine says of itself."""
    return Facts(engine.inputs, engine.outputs, engine.platform, engine.runtime, engine.memory)


class Parked(Declared):
    """Stands for an engine that is not in memory."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts.inputs, facts.outputs)
        self.platform, self.runtime, self.memory = facts.platform, facts.runtime, facts.memory

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Fail."""
        del inputs
        raise EngineFailure("the engine is not in memory")


@dataclass(frozen=True)
class Opening:
    """How an engine is to be opened, whatever its runtime."""

    image_size: tuple[int, int]
    """Height and width, where the file leaves them open."""
    threads: int = 1
    providers: tuple[str, ...] = ()
    """Of onnxruntime, best first; its own CPU comes last, named or not."""
    precision: str = "fp32"
    """In which the runtime may calculate: ``fp32`` or ``fp16``."""
    built_on: Mapping[str, str] | None = None
    """Facts of the device that the file was made on; None where it depends on none."""


def signature(name: str, datatype: str | None, shape: tuple[int, ...], size: tuple[int, int] | None) -> Signature:
    """Give a signature; a picture's open height and width are fixed to ``size``.

    Stalled ``LoadFailed`` where ``datatype`` is None, which stands for what this server cannot carry.
    """
    if datatype is None:
        raise Stalled("LoadFailed", f"{name!r} is no plain tensor; this server carries plain tensors only")
    if size is not None and len(shape) == 4:
        sides = zip(shape[2:], size, strict=True)
        shape = (*shape[:2], *(wanted if fixed == ANY else fixed for fixed, wanted in sides))
    return Signature(name, datatype, shape)


def first_line(error: Exception) -> str:
    """Give the first line of what a runtime said, at most 300 characters."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _unfit(wanted: Signature, given: Array | None) -> Refusal:
    expected = f"{wanted.datatype} of shape {list(wanted.shape)}"
    if given is None:
        return Refusal(400, f"input {wanted.name!r} is missing; expected {expected}")
    got = f"{datatype_of(given)} of shape {list(given.shape)}"
    return Refusal(400, f"input {wanted.name!r}: expected {expected}, got {got}")
