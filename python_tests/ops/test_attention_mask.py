"""attention_mask: where it is True, what becomes of empty rows and of NaN, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F
from op_checks import native_only
from torch import Tensor

from maskformer_ext.ops import attention_mask


def logits_of(embed: Tensor, features: Tensor, size: tuple[int, int]) -> Tensor:
    dense = torch.einsum("bqc,bchw->bqhw", embed.double(), features.double())
    return F.interpolate(dense, size=size, mode="bilinear", align_corners=False)


def assert_attends(found: Tensor, logits: Tensor, tolerance: float = 1e-5) -> None:
    expected = ~(logits.sigmoid() < 0.5)
    expected |= ~expected.flatten(2).any(-1)[..., None, None]
    clear = logits.abs() > tolerance * logits.abs().max()
    assert found.dtype == torch.bool
    assert torch.equal(found[clear], expected[clear])


@pytest.mark.parametrize("size", [(9, 13), (3, 5), (18, 26), (1, 1), (20, 7)])
def test_it_is_the_sign_of_the_resized_logits(kernels, size):
    torch.manual_seed(1)
    embed, features = torch.randn(3, 7, 11), torch.randn(3, 11, 9, 13)  # no multiple of 4, for what takes 4 planes
    assert_attends(kernels.attention_mask(embed, features, size), logits_of(embed, features, size))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_inputs_are_multiplied_in_float32(kernels, dtype):
    torch.manual_seed(1)
    embed, features = torch.randn(2, 5, 16).to(dtype), torch.randn(2, 16, 8, 12).to(dtype)
    for size in ((4, 6), (8, 12)):
        assert_attends(kernels.attention_mask(embed, features, size), logits_of(embed, features, size))


@pytest.mark.parametrize("size", [(4, 5), (6, 7)])
def test_features_of_any_strides(kernels, size):
    embed, features = torch.randn(2, 5, 8), torch.randn(2, 8, 6, 7)
    expected = kernels.attention_mask(embed, features, size)
    for strided in (features.to(memory_format=torch.channels_last), features.mT.contiguous().mT):
        assert torch.equal(kernels.attention_mask(embed, strided, size), expected)
    transposed = embed.mT.contiguous().mT
    assert torch.equal(kernels.attention_mask(transposed, features, size), expected)


@pytest.mark.parametrize("size", [(4, 4), (2, 3)])
def test_a_query_that_may_attend_nowhere_attends_everywhere(kernels, size):
    features = torch.ones(2, 3, 4, 4)
    embed = torch.ones(2, 2, 3)
    embed[0, 1] = -1
    features[1, :, 0] = -3
    found = kernels.attention_mask(embed, features, size)
    assert found[0].all()
    assert not found[1].all()
    assert found[1].any()


def test_zero_and_nan_count_as_not_negative(kernels):
    embed = torch.tensor([[[1.0], [0.0], [torch.nan]]])
    features = torch.tensor([-1.0, 0.0, -0.0, 1.0]).view(1, 1, 2, 2)
    found = kernels.attention_mask(embed, features, (2, 2)).flatten(2)[0].tolist()
    assert found == [[False, True, True, True], [True] * 4, [True] * 4]


def test_what_transformers_masks(kernels):
    theirs = pytest.importorskip("transformers.models.mask2former.modeling_mask2former")
    torch.manual_seed(2)
    predictor = theirs.Mask2FormerMaskPredictor(hidden_size=16, num_heads=2, mask_feature_size=12)
    outputs, features = torch.randn(9, 2, 16), torch.randn(2, 12, 16, 24)
    with torch.no_grad():
        logits, masked = predictor(outputs, features, (4, 6))
        embed = predictor.mask_embedder(outputs.transpose(0, 1))
    small = F.interpolate(logits, size=(4, 6), mode="bilinear", align_corners=False)
    clear = small.abs() > 1e-5 * small.abs().max()
    attends = ~masked.view(2, 2, 9, 4, 6)[:, 0]
    attends |= ~attends.flatten(2).any(-1)[..., None, None]
    assert torch.equal(kernels.attention_mask(embed, features, (4, 6))[clear], attends[clear])


@pytest.mark.parametrize(("images", "queries", "channels"), [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_without_elements_the_shape_is_kept(kernels, images, queries, channels):
    found = kernels.attention_mask(torch.zeros(images, queries, channels), torch.zeros(images, channels, 4, 4), (2, 2))
    assert found.shape == (images, queries, 2, 2)
    assert found.all()


@native_only
@pytest.mark.parametrize("size", [(2, 2), (4, 4)])
def test_without_channels_every_query_attends_everywhere(kernels, size):
    for dtype in (torch.float32, torch.float64):
        found = kernels.attention_mask(torch.zeros(2, 3, 0, dtype=dtype), torch.zeros(2, 0, 4, 4, dtype=dtype), size)
        assert found.shape == (2, 3, *size) and found.all()


def test_float64_goes_to_the_reference_and_there_is_no_gradient():
    embed = torch.randn(1, 2, 3, dtype=torch.float64, requires_grad=True)
    found = attention_mask(embed, torch.randn(1, 3, 4, 4, dtype=torch.float64), (2, 2))
    assert not found.requires_grad


def test_misfitting_arguments_are_named():
    embed, features = torch.zeros(2, 5, 8), torch.zeros(2, 8, 4, 4)
    with pytest.raises(ValueError, match=r"mask_embed must be \(B, Q, C\), got"):
        attention_mask(embed[None], features, (2, 2))
    with pytest.raises(ValueError, match="mask_embed must be"):
        attention_mask(embed, features[:, :7], (2, 2))
    with pytest.raises(ValueError, match="size must be"):
        attention_mask(embed, features, (0, 2))
    with pytest.raises(TypeError, match="size must be"):
        attention_mask(embed, features, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mask_features must have at least one pixel"):
        attention_mask(embed, features[..., :0], (2, 2))
    with pytest.raises(TypeError, match="mask_embed must have a floating dtype"):
        attention_mask(embed.long(), features, (2, 2))
