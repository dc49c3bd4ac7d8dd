"""Which files are taken for images, by their endings; without the library that reads them."""

from __future__ import annotations

HEIF = (".heic", ".heif", ".hif")
"""Endings of the files for which pillow-heif is needed."""

EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".avif", *HEIF),
)
"""Endings of the files that are taken for images, in small letters."""

LABEL_EXTENSIONS = (".png", ".tif", ".tiff", ".bmp", ".pgm", ".pbm", ".pnm", ".gif")
"""Endings of the files that are taken for label images, in small letters."""
