"""LitServe with the tensor's bytes as the body, and batching."""

import os
from typing import Annotated

import litserve
import numpy as np
from fastapi import Body, Response
from session import BATCH, PORT, WAIT, made

SHAPE = [int(size) for size in os.environ["SHAPE"].split(",")]
Raw = Annotated[bytes, Body(media_type="application/octet-stream")]


class Api(litserve.LitAPI):
    """One request is one row."""

    def setup(self, device: str) -> None:
        """Make the session, in the worker process."""
        del device
        self._session, self._input = made()

    def decode_request(self, request: Raw) -> np.ndarray:
        """Give one row."""
        return np.frombuffer(request, np.float32).reshape(SHAPE)

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Join rows."""
        return np.concatenate(inputs)

    def predict(self, tensor: np.ndarray) -> np.ndarray:
        """Run one batch."""
        return self._session.run(None, {self._input: tensor})[0]

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """Take rows apart."""
        return [output[number : number + 1] for number in range(len(output))]

    def encode_response(self, output: np.ndarray) -> Response:
        """Give the bytes."""
        return Response(content=output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    api = Api(max_batch_size=BATCH, batch_timeout=WAIT if BATCH > 1 else 0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False, log_level="warning")
