"""The methods that read and write a model in any layout; what they need is imported when they are called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from maskformer_ext.config import Config
from maskformer_ext.errors import UserError

if TYPE_CHECKING:
    from maskformer_ext.data.types import DatasetInfo
    from maskformer_ext.modeling.pixel_level import PixelLevelModule

_T = TypeVar("_T", bound="Pretrained")


class Pretrained:
    """Adds reading and writing to a model.

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
        """Build a model with weights in any layout that is known here, ready for inference.

        Args:
            source: the output folder of a run, a checkpoint or `save_pretrained` folder, a folder in transformers'
                layout, a ``.safetensors``, ``.bin``, ``.pth`` or ``.pkl`` file, or a hub id, such as
                "facebook/maskformer-swin-tiny-ade".
            config: the recipe that weights of the original were trained with (a name or a YAML file), for what shapes
                do not tell: thresholds, resizing, padding, classes; None: their defaults, or what lies beside the
                weights.
            num_classes: K of the model; None: that of the weights.
            reset_head: start with a new classifier where the weights know other classes.

        Returns:
            The model in evaluation mode; ``recipe`` and ``dataset_info`` say what came with the weights.

        Raises:
            UserError: if nothing can be read, or weights and model do not fit; it names the file and the key, and what
                was expected and found.
        """
        from maskformer_ext.checkpoints.pretrained import load_pretrained

        model = load_pretrained(source, config=config, num_classes=num_classes, reset_head=reset_head)
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
        from maskformer_ext.checkpoints.pretrained import save_pretrained

        model = cast("PixelLevelModule", self)
        return save_pretrained(model, folder, layout=layout, config=config, info=info, overwrite=overwrite)
