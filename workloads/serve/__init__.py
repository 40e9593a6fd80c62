"""The inference server: Open Inference Protocol v2 over onnxruntime, plain picture upload, swap without loss.

Start it with ``python -m workloads.serve``. It never imports torch or ultralytics: it needs only files from the
store that a job has made, and runs nothing but ONNX.
"""
