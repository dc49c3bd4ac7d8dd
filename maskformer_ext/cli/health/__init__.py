"""What `doctor` looks at: packages, kernels, the machine, and whether every op gives what its reference gives."""
