"""Multi-scale deformable attention of transformers' models: which class runs on which of ours.

Since 4.50 most models share one small module that samples and does nothing else, `MultiScaleDeformableAttention`. A
kernel from the hub can take its place. Mask2Former, OneFormer, RT-DETRv2, D-FINE and DEIMv2 have the sampling inside of
larger modules, where no kernel of the hub reaches it.
"""

from __future__ import annotations

from maskformer_ext.integrations.transformers_models import deformable_pixel_decoder as pixel_decoder
from maskformer_ext.integrations.transformers_models import deformable_ragged as ragged
from maskformer_ext.integrations.transformers_models.deformable_sampling import Sampling
from maskformer_ext.integrations.transformers_models.parts import Part

_MASK2FORMER = "Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention"
_ONEFORMER = "OneFormerPixelDecoderEncoderMultiscaleDeformableAttention"
_PIXEL_DECODER_NEEDS = (
    "d_model",
    "n_heads",
    "n_levels",
    "n_points",
    "value_proj",
    "output_proj",
    "sampling_offsets",
    "attention_weights",
    "with_pos_embed",
)
_RAGGED_NEEDS = ("d_model", "n_heads", "offset_scale", "sampling_offsets", "attention_weights")
_RTDETRV2_NEEDS = (*_RAGGED_NEEDS, "n_points_list", "n_points_scale", "method", "value_proj", "output_proj")
_DFINE_NEEDS = (*_RAGGED_NEEDS, "num_points_list", "num_points_scale", "decoder_method", "ms_deformable_attn_core")

MODEL_PARTS = (
    Part(("MultiScaleDeformableAttention",), Sampling, "ms_deform_attn"),
    *(
        Part(names, mixin, "ms_deform_attn, sizes as Python integers", needs)
        for names, mixin, needs in (
            ((_MASK2FORMER,), pixel_decoder.WithList, _PIXEL_DECODER_NEEDS),
            ((_ONEFORMER,), pixel_decoder.WithBoth, _PIXEL_DECODER_NEEDS),
            ((_MASK2FORMER,), pixel_decoder.WithTensor, _PIXEL_DECODER_NEEDS),
            (("RTDetrV2MultiscaleDeformableAttention",), ragged.RTDetrV2, _RTDETRV2_NEEDS),
            (("RTDetrV2MultiscaleDeformableAttention",), ragged.RTDetrV2WithOutputAttentions, _RTDETRV2_NEEDS),
            (("DFineMultiscaleDeformableAttention", "Deimv2MultiscaleDeformableAttention"), ragged.DFine, _DFINE_NEEDS),
            (("DFineMultiscaleDeformableAttention",), ragged.DFineWithoutOptions, _DFINE_NEEDS),
        )
    ),
)
