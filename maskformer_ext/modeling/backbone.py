"""Backbones: one module that maps images to a list of feature maps, finest first."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor, nn

from maskformer_ext.config import ModelConfig
from maskformer_ext.errors import UserError, why
from maskformer_ext.modeling import resnet, swin
from maskformer_ext.modeling.folding import FoldedNetwork
from maskformer_ext.modeling.layers import Backbone, FrozenBatchNorm2d
from maskformer_ext.modeling.vit import SimpleFeaturePyramid, is_plain

_STRIDES = (4, 8, 16, 32)


class TimmBackbone(Backbone):
    """A timm network, cut into its feature maps at strides 4, 8, 16 and 32."""

    def __init__(self, name: str, net: Any) -> None:
        """Take over a network.

        Args:
            name: timm's name of it, for error messages.
            net: made by ``timm.create_model(name, features_only=True)``.

        Raises:
            UserError: if a stride is missing.
        """
        super().__init__()
        info = net.feature_info
        reductions = info.reduction()
        self._levels = [level for level, stride in enumerate(reductions) if stride in _STRIDES]
        self.strides = tuple(reductions[level] for level in self._levels)
        if self.strides[:1] != (4,) or len(set(self.strides)) != len(self.strides):
            raise UserError(
                f"model.backbone must have one feature map at each stride (4, 8, 16, 32), {name!r} has {reductions}"
            )
        self.channels = tuple(info.channels()[level] for level in self._levels)
        self._channels_last = str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")
        self.net = net
        self._folded: FoldedNetwork | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_folded": None}  # a copy traces its own network

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map (B, 3, H, W) images to features (B, C_i, H / stride_i, W / stride_i)."""
        # a compiler would form a second program once the first has set an attribute
        features = self.net(images) if torch.compiler.is_compiling() else self._folding()(images)
        chosen = [features[level] for level in self._levels]
        return [f.permute(0, 3, 1, 2) for f in chosen] if self._channels_last else chosen

    def _folding(self) -> FoldedNetwork:
        if self._folded is None or self._folded.network is not self.net:
            self._folded = FoldedNetwork(self.net)
        return self._folded


def _build_timm_backbone(name: str, config: ModelConfig) -> TimmBackbone | SimpleFeaturePyramid:
    _check_name(name)
    try:
        net: Any = timm.create_model(name, pretrained=False, features_only=True, **_options(name, config.drop_path))
    except (RuntimeError, AttributeError, AssertionError, TypeError, ValueError, LookupError) as error:
        raise UserError(f"{_known()}, with feature maps, got {name!r}: {why(error)}") from error
    if is_plain(net.feature_info.reduction()):
        return SimpleFeaturePyramid(name, config.pixel_decoder_dim)
    return TimmBackbone(name, net)


def _check_name(name: str) -> None:
    """Refuse what is not in timm's tables: timm takes addresses of hubs and paths of folders as well."""
    architecture, _, tag = name.partition(".")
    if timm.is_model(architecture) and (not tag or name in timm.list_pretrained()):
        return
    names = timm.list_pretrained(f"{architecture}.*") if timm.is_model(architecture) else timm.list_models()
    near = difflib.get_close_matches(name[:80], dict.fromkeys([*ORIGINAL, *names]), n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise UserError(f"{_known()}, got {name!r:.80}{hint}")


def _known() -> str:
    return f"model.backbone must be {', '.join(ORIGINAL)}, or a name that timm.list_models() or list_pretrained() gives"


def _options(name: str, drop_path: float) -> dict[str, Any]:
    """Return what timm needs beyond the name."""
    if name.startswith("swin"):  # otherwise only images of the pre-training size are accepted
        return {"strict_img_size": False, "drop_path_rate": drop_path}
    return {}


def freeze_batch_norm(module: nn.Module) -> None:
    """Replace every batch norm below ``module`` by one whose statistics and affine parameters stay fixed."""
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(module, name, _frozen(child))
        else:
            freeze_batch_norm(child)


def _frozen(norm: Any) -> nn.Module:
    # timm's batch norm carries the activation that follows it
    frozen = FrozenBatchNorm2d(norm.num_features, norm.eps, getattr(norm, "act", None))
    frozen.load_state_dict({key: value for key, value in norm.state_dict().items() if key in frozen.state_dict()})
    return frozen


ORIGINAL: dict[str, Callable[[ModelConfig], Backbone]] = {
    "resnet50": lambda config: resnet.resnet50(),
    "resnet101": lambda config: resnet.resnet101(),
    "resnet101c": lambda config: resnet.resnet101c(),
    "swin_tiny": lambda config: swin.swin_tiny(config.drop_path),
    "swin_small": lambda config: swin.swin_small(config.drop_path),
    "swin_base": lambda config: swin.swin_base(config.drop_path),
    "swin_large": lambda config: swin.swin_large(config.drop_path),
}


def build_backbone(config: ModelConfig) -> Backbone:
    """Create the backbone that ``config.backbone`` names, with fresh weights.

    Names of the original's backbones (``resnet50``, ``swin_tiny`` and their siblings) follow its numerics exactly.
    Every other name is timm's. Where both know a name, ``timm:resnet50`` asks for timm's. Plain vision transformers get
    a simple feature pyramid of ``pixel_decoder_dim`` channels.

    Returns:
        The backbone; ``forward`` returns a list of features, finest first.

    Raises:
        UserError: if the backbone is unknown or has no usable feature maps.
    """
    if config.backbone in ORIGINAL:
        return ORIGINAL[config.backbone](config)
    backbone = _build_timm_backbone(config.backbone.removeprefix("timm:"), config)
    if config.freeze_batch_norm:
        freeze_batch_norm(backbone)
    return backbone
