"""Data sets, augmentation and loaders."""

from maskformer_ext.data.build import build_dataset, build_loader
from maskformer_ext.data.types import Batch, DatasetInfo, Sample, SampleDataset

__all__ = ["Batch", "DatasetInfo", "Sample", "SampleDataset", "build_dataset", "build_loader"]
