"""Configuration: the typed schema, recipes, and how YAML files and ``key=value`` become one of its values."""

from maskformer_ext.config.schema import (
    AugmentationConfig,
    Config,
    CriterionConfig,
    DataConfig,
    InferenceConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
    to_dict,
)

__all__ = [
    "AugmentationConfig",
    "Config",
    "CriterionConfig",
    "DataConfig",
    "InferenceConfig",
    "ModelConfig",
    "OptimizerConfig",
    "ScheduleConfig",
    "TrainConfig",
    "to_dict",
]
