"""The session that all of them serve, with the same settings."""

import os

import onnxruntime

PORT = int(os.environ["PORT"])
BATCH = int(os.environ["BATCH"])
"""Rows of several requests in one inference, where a server can do that; 1 where the model takes no more."""
WAIT = 0.002
"""Seconds to wait for them, where a server wants to be told."""
NAME = "bench"


def made() -> tuple[onnxruntime.InferenceSession, str]:
    """Give the session and the name of its input."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["THREADS"])
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
    return session, session.get_inputs()[0].name
