"""Exported programs: traced and written by `export`, run by `ExportedModel`.

- export.py decides which models a program does justice to. tracing.py traces and writes, in silence (quiet.py).
- plain_reduction.py is the reduction of queries in plain operators.
- metadata.py says what a program needs to be used, and onnx_metadata.py and pt2_metadata.py read it.
- runtimes.py runs a file; exported_model.py gives it to `segment`; loading.py opens it in the place of a checkpoint.
- agreement.py compares what was written with the network.
"""
