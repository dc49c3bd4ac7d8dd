"""The models that users build, load and save: the networks of `modeling`, with weights from files and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import torch

from maskformer_ext.checkpoints.backbone_weights import build_pretrained_backbone
from maskformer_ext.checkpoints.pretrained import load_pretrained, numbered_classes, save_pretrained
from maskformer_ext.config import Config, ModelConfig
from maskformer_ext.config.load import load_config
from maskformer_ext.config.values import check_choice
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.errors import UserError
from maskformer_ext.modeling import maskformer, per_pixel
from maskformer_ext.modeling.pixel_level import PixelLevelModule
from maskformer_ext.modeling.weights import nonfinite_weights

_T = TypeVar("_T", bound="Pretrained")


class Pretrained:
    """Reading and writing of a whole model, as methods of its class.

    Attributes:
        recipe: the whole configuration that the weights came with; None for a model that was built here.
        dataset_info: the classes that the weights know, likewise.
    """

    recipe: Config | None = None
    dataset_info: DatasetInfo | None = None

    @classmethod
    def from_pretrained(
        cls: type[_T],
        source: str | Path,
        *,
        config: str | Config | None = None,
        num_classes: int | None = None,
        reset_head: bool = False,
    ) -> _T:
        """Build a model with weights in any known layout, ready for inference.

        ``source`` may be:

        - the output folder of a run, whose newest checkpoint is taken;
        - a folder of a checkpoint, of `save_pretrained` or of transformers;
        - a ``.safetensors``, ``.bin``, ``.pth`` or ``.pkl`` file;
        - a hub id, such as "facebook/maskformer-swin-tiny-ade".

        Args:
            source: where the weights are.
            config: the recipe that weights of others were trained with, a name or a YAML file. It adds what shapes do
                not show: thresholds, resizing, padding, classes. None: what lies beside the weights, or defaults.
            num_classes: K of the model; None: that of the weights.
            reset_head: start with a new classifier where the weights know other classes.

        Returns:
            The model in evaluation mode. Its ``recipe`` and ``dataset_info`` came with the weights.

        Raises:
            UserError: if nothing can be read, or weights and model do not fit. It names the file and the key, what was
                expected, and what was found.
        """
        model = load_model(source, config=config, num_classes=num_classes, reset_head=reset_head)
        if not isinstance(model, cls):
            raise UserError(f"{source} holds a {type(model).__name__}, not a {cls.__name__}: call that class's method")
        return model

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        layout: str = "native",
        config: Config | None = None,
        info: DatasetInfo | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write weights and configuration to a folder that is whole or not there.

        Args:
            folder: the new folder.
            layout: "native", for `from_pretrained`, evaluate and predict; or "hf", for `from_pretrained` and for
                transformers' ``MaskFormerForInstanceSegmentation.from_pretrained``.
            config: the configuration to write; None: that which the weights came with, or the model's alone.
            info: the classes; None: likewise, or numbered ones.
            overwrite: replace an earlier folder of this kind.

        Returns:
            The folder.

        Raises:
            UserError: if the folder is in the way, cannot be written, or the layout cannot express the model.
        """
        model = cast(PixelLevelModule, self)
        config = config or self.recipe or Config()
        info = info or self.dataset_info or numbered_classes(model.num_classes)
        return save_pretrained(model, folder, layout=layout, config=config, info=info, overwrite=overwrite)


class MaskFormer(Pretrained, maskformer.MaskFormer):
    __doc__ = maskformer.MaskFormer.__doc__

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, build_pretrained_backbone(config))


class PerPixelBaseline(Pretrained, per_pixel.PerPixelBaseline):
    __doc__ = per_pixel.PerPixelBaseline.__doc__

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, build_pretrained_backbone(config))


class PerPixelBaselinePlus(Pretrained, per_pixel.PerPixelBaselinePlus):
    __doc__ = per_pixel.PerPixelBaselinePlus.__doc__

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, build_pretrained_backbone(config))


Model: TypeAlias = MaskFormer | PerPixelBaseline | PerPixelBaselinePlus
_ARCHITECTURES: dict[str, Callable[[ModelConfig], Model]] = {
    "maskformer": MaskFormer,
    "per_pixel_baseline": PerPixelBaseline,
    "per_pixel_baseline_plus": PerPixelBaselinePlus,
}


def build_model(config: str | Config | ModelConfig, *, pretrained_backbone: bool = False, **overrides: Any) -> Model:
    """Create a model with fresh weights.

    Args:
        config: the name of a recipe or a YAML file, a whole configuration, or its ``model`` part.
        pretrained_backbone: load the weights that ``backbone_weights`` names, as training does; that may download them.
        overrides: fields of ``ModelConfig``, for instance ``num_queries=50``.

    Returns:
        The model; ``model.config`` is the ``ModelConfig`` it was built from.

    Raises:
        UserError: if a name or value is unknown or impossible.
    """
    if isinstance(config, str):
        config = load_config(config)
    model_config = config.model if isinstance(config, Config) else config
    settings = [field.name for field in fields(ModelConfig)]
    for name in overrides:
        if name not in settings:
            raise UserError(f"build_model: unknown model setting {name!r}; known are {', '.join(settings)}")
    model_config = replace(model_config, **overrides)
    if model_config.num_classes is None and isinstance(config, Config):
        model_config = replace(model_config, num_classes=_num_classes(config))
    check_choice("model.architecture", model_config.architecture, tuple(_ARCHITECTURES))
    architecture = _ARCHITECTURES[model_config.architecture]
    if pretrained_backbone:
        return architecture(model_config)
    model = architecture(replace(model_config, backbone_weights=None))
    model.config = model_config
    return model


def load_model(
    source: str | Path,
    *,
    config: str | Config | None = None,
    num_classes: int | None = None,
    reset_head: bool = False,
) -> Model:
    """Build the model of any architecture; arguments and errors are those of `Pretrained.from_pretrained`."""
    loaded = load_pretrained(source, build_model, config=config, num_classes=num_classes, reset_head=reset_head)
    model = cast(Model, loaded.model)
    model.recipe, model.dataset_info = loaded.recipe, loaded.classes
    return model


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> tuple[Model, Config, DatasetInfo]:
    """Build the model of a checkpoint, with its weights, ready for inference.

    Args:
        path: the output folder of a run (its newest checkpoint), a checkpoint folder, a ``model.safetensors`` file, or
            whatever else `MaskFormer.from_pretrained` reads.
        device: where the model goes.

    Returns:
        The model in evaluation mode, its configuration, and the classes that it knows.

    Raises:
        UserError: if there is no checkpoint, it is damaged, its weights belong to another architecture, or they are
            infinite or NaN.
    """
    model = load_model(path)
    if problem := nonfinite_weights(model):
        raise UserError(f"{path}: the weights are not finite, so no result would mean anything: {problem}")
    assert model.recipe is not None  # set by load_model
    return model.to(device).eval(), model.recipe, model.dataset_info or numbered_classes(model.num_classes)


def _num_classes(config: Config) -> int:
    """Ask the data set how many classes it has."""
    from maskformer_ext.data.build import build_dataset

    return build_dataset(config.data, "val").info.num_classes
