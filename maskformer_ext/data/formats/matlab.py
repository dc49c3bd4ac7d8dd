"""Label maps in MATLAB 7.3 files, which are HDF5 files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from maskformer_ext.errors import UserError, why

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MOST_PIXELS = 1 << 28  # a header can claim any size
_USER_BLOCK = 512  # bytes that MATLAB 7.3 writes before the HDF5 file begins


def read_matlab_labels(path: Path) -> np.ndarray:
    """Read the variable S of a MATLAB 7.3 file.

    Returns:
        (H, W) uint8, as stored.

    Raises:
        UserError: if it is another file, is damaged, or h5py is not installed.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_USER_BLOCK + len(_HDF5))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {why(error)}") from None
    if _HDF5 not in (start[: len(_HDF5)], start[_USER_BLOCK:]):
        raise UserError(f"{path} is no MATLAB 7.3 (HDF5) file: expected the labels of COCO-Stuff-10K version 1.0.")
    try:
        import h5py
    except ImportError:
        raise UserError(f"{path} can be read only with h5py: pip install h5py.") from None
    try:
        with h5py.File(path, "r") as content:
            variable = content["S"]
            if not 0 < math.prod(variable.shape) <= _MOST_PIXELS or variable.dtype.kind not in "uifb":
                raise ValueError(f"it has the shape {variable.shape} and the type {variable.dtype}")
            label = np.array(variable).T  # MATLAB stores columns first
    except Exception as error:  # h5py raises nearly everything for a damaged file
        raise UserError(f"{path}: the variable S cannot be read ({why(error)}).") from None
    if label.ndim != 2 or not (label.min() >= 0 and label.max() <= 255) or (label % 1).any():
        raise UserError(
            f"{path}: the variable S must be a map of whole numbers within 0 and 255, got shape {label.shape}."
        )
    return label.astype(np.uint8)
