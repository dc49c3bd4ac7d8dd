"""Reading weights: whole models of the original, and pre-trained backbones."""

from maskformer_ext.checkpoints.original import load_original, original_name

__all__ = ["load_original", "original_name"]
