"""BentoML with the tensor's bytes as an uploaded file, and adaptive batching. Bytes it answers in base64 only."""

import base64
import os
import sys
from pathlib import Path

import bentoml
import numpy as np
from session import BATCH, PORT, made

SHAPE = [int(size) for size in os.environ["SHAPE"].split(",")]


@bentoml.service(workers=1, threads=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Tensors:
    """One request is one row."""

    def __init__(self) -> None:
        self._session, self._input = made()

    @bentoml.api(batchable=BATCH > 1, max_batch_size=max(BATCH, 1), max_latency_ms=10_000)
    def infer(self, tensors: list[Path]) -> list[str]:
        """Run one batch."""
        rows = np.concatenate([np.fromfile(path, np.float32).reshape(SHAPE) for path in tensors])
        output = self._session.run(None, {self._input: rows})[0]
        return [base64.b64encode(output[number].tobytes()).decode() for number in range(len(rows))]


if __name__ == "__main__":
    program = Path(sys.executable).with_name("bentoml")
    options = ["--host", "127.0.0.1", "--port", str(PORT), "--working-dir", str(Path(__file__).parent)]
    os.execv(program, [str(program), "serve", "bentoml_model:Tensors", *options])
