"""Training: the loop, its state on disk, its schedule, its display and its report."""
