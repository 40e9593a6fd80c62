"""The inference server: Open Inference Protocol v2 over onnxruntime, plain picture upload, swap without loss.

Start it with ``python -m workloads.serve``. It never imports torch or ultralytics: it needs only files from the
store that a job has made, and runs nothing but ONNX.
"""

import os

# Before numpy loads: its threads would wait for work by spinning, on cores that inference and sockets need.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
