"""What a plain installation lacks: the one table of optional packages, and the sentence that names what to install."""

from __future__ import annotations

from maskformer_ext.errors import UserError

_EXTRAS = {
    "train": (
        *("torchvision", "timm", "accelerate", "omegaconf", "yaml", "rich", "PIL", "matplotlib", "tensorboard"),
        *("safetensors", "huggingface_hub", "sklearn", "skimage", "faster_coco_eval", "scipy"),
    ),
    "video": ("av",),
    "heif": ("pillow_heif",),
    "datasets": ("datasets", "pyarrow"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino",),
    "coco-stuff": ("h5py",),
    "results": ("supervision",),
}
_REQUIRED = ("torch", "numpy")


def optional_packages() -> dict[str, tuple[str, ...]]:
    """Return the modules of the optional packages by the extra that installs them."""
    return dict(_EXTRAS)


class MissingPackage(UserError, ImportError):
    """A package is needed that is not installed; the sentence names the extra that has it."""


def missing_package(error: ImportError) -> MissingPackage | None:
    """Return the sentence for an import that failed; None where it is no package of this table.

    Args:
        error: of an ``import`` statement.
    """
    if isinstance(error, MissingPackage):
        return error
    package = (error.name or "").partition(".")[0]
    extra = next((extra for extra, packages in _EXTRAS.items() if package in packages), None)
    if not isinstance(error, ModuleNotFoundError):
        return None
    if package in _REQUIRED:  # of an installation that went wrong
        return MissingPackage(f"this needs the package {package}: pip install {package}")
    if extra is None:
        return None
    return MissingPackage(f"this needs the package {package}: pip install 'maskformer-ext[{extra}]'")
