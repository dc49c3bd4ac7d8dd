"""What MaskFormer and the per-pixel baselines share: backbone, pixel decoder and the sizes they agree on."""

from __future__ import annotations

from torch import Tensor, nn

from maskformer_ext.config import ModelConfig
from maskformer_ext.config.values import CHOICES, check_choice
from maskformer_ext.errors import UserError
from maskformer_ext.modeling.backbone import build_backbone
from maskformer_ext.modeling.layers import Backbone
from maskformer_ext.modeling.pixel_decoder import FPNPixelDecoder, TransformerEncoderPixelDecoder
from maskformer_ext.modeling.position_encoding import FOURIER_FREQUENCIES, add_positions
from maskformer_ext.modeling.products import channels_last, use_fast_products
from maskformer_ext.modeling.transformer import TransformerDecoder
from maskformer_ext.modeling.weights import sample_weights, still_holds, weights_version


class PixelLevelModule(nn.Module):
    """Map images to mask features and to the feature map that a transformer decoder attends to."""

    _drawn: tuple[int, list[Tensor]] | None = None  # version and sample of the weights that the constructor drew

    def __init__(self, config: ModelConfig, backbone: Backbone | None = None) -> None:
        """Create backbone and pixel decoder.

        Args:
            config: sizes; ``num_classes`` must be set.
            backbone: with weights, as ``config.backbone`` names it; None: a fresh one.

        Raises:
            UserError: if a size is impossible or the backbone unknown.
        """
        super().__init__()
        _check(config)
        self.config = config
        self.backbone = build_backbone(config) if backbone is None else backbone
        self.memory_position: nn.Module | None = None
        channels = self.backbone.channels
        level = config.decoder_feature
        if not -len(channels) <= level < len(channels):
            raise UserError(f"model.decoder_feature must be from {-len(channels)} to {len(channels) - 1}, got {level}")
        if config.pixel_decoder == "fpn":
            self.pixel_decoder: nn.Module = FPNPixelDecoder(
                channels, config.pixel_decoder_dim, config.mask_dim, mask_position=config.mask_position
            )
        else:
            self.pixel_decoder = TransformerEncoderPixelDecoder(
                channels,
                config.pixel_decoder_dim,
                config.mask_dim,
                hidden_dim=config.hidden_dim,
                num_layers=config.encoder_layers,
                num_heads=config.num_heads,
                feedforward_dim=config.feedforward_dim,
                dropout=config.dropout,
                mask_position=config.mask_position,
            )

    def finish(self) -> None:
        """Choose how layers compute, and remember their weights as drawn. Constructors end with this."""
        use_fast_products(self)
        self._drawn = weights_version(self), sample_weights(self)

    @property
    def is_untrained(self) -> bool:
        """Whether the weights are still those of the constructor: neither trained nor loaded since."""
        if self._drawn is None:
            return False
        version, sample = self._drawn
        return weights_version(self) in (0, version) and still_holds(self, sample)  # a deep copy counts from 0 again

    @property
    def num_classes(self) -> int:
        """K."""
        assert self.config.num_classes is not None  # checked at construction
        return self.config.num_classes

    @property
    def size_divisibility(self) -> int:
        """Images are padded to a multiple of this; 0 = no rounding."""
        return self.config.size_divisibility

    @property
    def memory_channels(self) -> int:
        """Channels of the map that the transformer decoder attends to."""
        if self.config.pixel_decoder == "transformer_encoder":
            return self.config.hidden_dim
        if self.config.decoder_memory == "pixel_decoder":
            return self.config.pixel_decoder_dim
        return self.backbone.channels[self.config.decoder_feature]

    def pixel_level(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, 3, H, W) images to mask features (B, C, h, w) and the transformer decoder's memory."""
        features = self.backbone(channels_last(images))
        if isinstance(self.pixel_decoder, TransformerEncoderPixelDecoder):
            mask_features, encoded = self.pixel_decoder(features)
            return mask_features, self._with_position(encoded, mask_features)
        mask_features, merged = self.pixel_decoder(features)
        levels = merged if self.config.decoder_memory == "pixel_decoder" else features
        return mask_features, self._with_position(levels[self.config.decoder_feature], mask_features)

    def _with_position(self, memory: Tensor, mask_features: Tensor) -> Tensor:
        """Add places to what the decoder reads, in the encoding of the mask features.

        A query that attends to an object then knows where it is, and its mask embedding can ask for that place.
        """
        if self.memory_position is None:
            return memory
        (height, width), (fine_height, fine_width) = memory.shape[-2:], mask_features.shape[-2:]
        return add_positions(memory, self.memory_position, cell=(fine_height / height, fine_width / width))

    def build_transformer_decoder(self, num_queries: int) -> TransformerDecoder:
        """Create the transformer decoder that fits this backbone and pixel decoder."""
        config = self.config
        if config.mask_position:
            self.memory_position = nn.Conv2d(4 * FOURIER_FREQUENCIES, self.memory_channels, kernel_size=1)
        return TransformerDecoder(
            self.memory_channels,
            config.hidden_dim,
            num_queries=num_queries,
            num_layers=config.decoder_layers,
            num_heads=config.num_heads,
            feedforward_dim=config.feedforward_dim,
            dropout=config.dropout,
            project_input=config.pixel_decoder != "transformer_encoder",
            query_init_std=config.query_init_std,
            learned_input=config.query_input,
        )


def _check(config: ModelConfig) -> None:
    if config.num_classes is None:
        raise UserError("model.num_classes must be set: the network cannot be built without the number of classes")
    for key in ("model.pixel_decoder", "model.decoder_memory"):
        check_choice(key, getattr(config, key.removeprefix("model.")), CHOICES[key])
    if config.hidden_dim % 4 or config.hidden_dim % config.num_heads:
        raise UserError(
            f"model.hidden_dim must be a multiple of 4 and of num_heads = {config.num_heads}, got {config.hidden_dim}"
        )
    for name in ("num_classes", "num_queries", "decoder_layers", "pixel_decoder_dim", "mask_dim", "feedforward_dim"):
        if getattr(config, name) < 1:
            raise UserError(f"model.{name} must be at least 1, got {getattr(config, name)}")
