"""What a user of each other server would write to serve an ONNX file; each runs in an environment of its own.

None of them imports anything of Trunkline. They are told by the environment: MODEL, PORT, THREADS, BATCH.
"""
