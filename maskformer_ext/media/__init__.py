"""Image and video files: decoded, turned upright, as tensors, and written whole."""
