"""MaskFormer: pixel-level module, transformer module and segmentation module."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from maskformer_ext.config import ModelConfig
from maskformer_ext.modeling.layers import MLP, Backbone, max_pool_to
from maskformer_ext.modeling.outputs import MaskFormerOutput
from maskformer_ext.modeling.pixel_level import PixelLevelModule
from maskformer_ext.ops.mask_dot import mask_dot

MASK_EMBED_LAYERS = 3


class MaskFormer(PixelLevelModule):
    """Predict Q segments per image: a class distribution and a mask embedding each.

    Source: "Per-Pixel Classification is Not All You Need for Semantic Segmentation", section 3.
    """

    def __init__(self, config: ModelConfig, backbone: Backbone | None = None) -> None:
        """Create the network with the original's initialisation.

        Args:
            config: sizes; ``num_classes`` must be set.
            backbone: with weights, as ``config.backbone`` names it; None: a fresh one.

        Raises:
            UserError: if a size is impossible or the backbone unknown.
        """
        super().__init__(config, backbone)
        self.transformer_decoder = self.build_transformer_decoder(config.num_queries)
        self.class_head = nn.Linear(config.hidden_dim, self.num_classes + 1)
        self.mask_head = MLP(config.hidden_dim, config.hidden_dim, config.mask_dim, MASK_EMBED_LAYERS)
        self.box_head = MLP(config.hidden_dim, config.hidden_dim, 4, MASK_EMBED_LAYERS) if config.box_head else None
        self.finish()

    def forward(self, images: Tensor) -> MaskFormerOutput:
        """Predict segments.

        Args:
            images: (B, 3, H, W) float, normalised, padded with zeros at the right and bottom.

        Returns:
            The prediction of every decoder layer, or of the last alone without deep supervision.
        """
        mask_features, memory = self.pixel_level(images)
        attended = self._attended(mask_features, memory) if self.config.masked_attention else None
        queries = self.transformer_decoder(memory, attended)
        if not self.config.deep_supervision:
            queries = queries[-1:]
        boxes = None if self.box_head is None else self.box_head(queries).sigmoid()
        return MaskFormerOutput(self.class_head(queries), self.mask_head(queries), mask_features, boxes)

    def _attended(self, mask_features: Tensor, memory: Tensor) -> Callable[[Tensor], Tensor]:
        """Let a query attend to the cells that the mask it predicts touches, or to all where that is empty.

        A cell counts as soon as one of its pixels is inside: thin objects would vanish in an average.

        Source: "Masked-attention Mask Transformer for Universal Image Segmentation", section 3.2.1.
        """
        features = mask_features.detach()
        cells = (memory.shape[-2], memory.shape[-1])

        def attended(queries: Tensor) -> Tensor:
            with torch.no_grad():
                touched = max_pool_to(mask_dot(self.mask_head(queries), features), cells).flatten(2) > 0
                return touched | ~touched.any(-1, keepdim=True)

        return attended
