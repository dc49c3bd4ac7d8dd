"""The tests of the stand-in itself run in the process that tools/host_cuda.py starts, the others anywhere else."""

import os

HOST_CUDA = os.environ.get("MASKFORMER_EXT_HOST_CUDA")
collect_ignore = (
    ["test_gpu_harness.py", "test_host_cuda.py", "test_host_cuda_build.py"] if HOST_CUDA else ["test_stand_in.py"]
)
