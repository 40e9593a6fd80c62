"""MLServer with a custom runtime, adaptive batching and raw tensors over gRPC (it has none over HTTP)."""

import asyncio

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from session import BATCH, NAME, PORT, WAIT, made


class Model(MLModel):
    """Runs the session in a thread, so that the event loop goes on."""

    async def load(self) -> bool:
        """Make the session."""
        self._session, self._input = made()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run one batch."""
        tensor = np.ascontiguousarray(NumpyCodec.decode_input(payload.inputs[0]), dtype=np.float32)
        (output, *_) = await asyncio.to_thread(self._session.run, None, {self._input: tensor})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("output", output)])


async def main() -> None:
    """Serve; one process, for a worker process of its own would hold all of this twice."""
    settings = Settings(
        host="127.0.0.1", grpc_port=PORT, http_port=PORT + 1, metrics_port=PORT + 2, parallel_workers=0, debug=False,
        grpc_max_message_length=64 << 20, load_models_at_startup=False,
    )  # fmt: skip
    server = MLServer(settings)
    batching = {"max_batch_size": BATCH, "max_batch_time": WAIT} if BATCH > 1 else {}
    model = ModelSettings(name=NAME, implementation=Model, **batching)
    await server.start([model])


if __name__ == "__main__":
    asyncio.run(main())
