"""Reads the machine code (SASS) of the CUDA kernels: loops, instructions by pipe, waits, occupancy and estimates."""
