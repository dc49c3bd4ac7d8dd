"""mask_dot: the plain product, activations, dtypes, gradients, bad input."""

import pytest
import torch

from maskformer_ext.ops import mask_dot


def product(mask_embed, mask_features):
    return torch.einsum("...bqc,bchw->...bqhw", mask_embed, mask_features)


@pytest.mark.parametrize("layers", [(), (3,), (2, 2), (0,)])
@pytest.mark.parametrize(
    ("batch", "queries", "channels", "size"), [(2, 7, 16, (5, 9)), (1, 1, 1, (1, 1)), (2, 0, 4, (3, 3))]
)
def test_every_activation(layers, batch, queries, channels, size):
    mask_embed, mask_features = torch.randn(*layers, batch, queries, channels), torch.randn(batch, channels, *size)
    expected = product(mask_embed, mask_features)
    assert mask_dot(mask_embed, mask_features).shape == (*layers, batch, queries, *size)
    torch.testing.assert_close(mask_dot(mask_embed, mask_features), expected)
    torch.testing.assert_close(mask_dot(mask_embed, mask_features, activation="sigmoid"), expected.sigmoid())
    binary = mask_dot(mask_embed, mask_features, activation="binary")
    assert binary.dtype == torch.bool
    assert ((binary == (expected > 0)) | (expected.abs() < 1e-5)).all()


@pytest.mark.parametrize("embed_dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("features_dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_each_input_may_have_its_own_dtype(embed_dtype, features_dtype):
    mask_embed, mask_features = torch.randn(2, 7, 64).to(embed_dtype), torch.randn(2, 64, 6, 9).to(features_dtype)
    expected = product(mask_embed.double(), mask_features.double())
    promoted = torch.promote_types(embed_dtype, features_dtype)
    for autocast in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            assert mask_dot(mask_embed, mask_features).dtype == promoted
            exact = mask_dot(mask_embed, mask_features, out_dtype=torch.float32)
        assert exact.dtype == torch.float32
        torch.testing.assert_close(exact.double(), expected, rtol=1e-5, atol=1e-4)
    half = mask_dot(mask_embed, mask_features, activation="sigmoid", out_dtype=torch.float16)
    assert half.dtype == torch.float16


def test_gradients():
    mask_embed = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    mask_features = torch.randn(2, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: mask_dot(a, b), (mask_embed, mask_features))
    assert torch.autograd.gradcheck(lambda a, b: mask_dot(a, b, activation="sigmoid"), (mask_embed, mask_features))


@pytest.mark.parametrize(
    ("mask_embed", "mask_features", "options", "message"),
    [
        (
            torch.zeros(2, 3, 4),
            torch.zeros(2, 5, 6, 6),
            {},
            r"mask_embed must be \(\.\.\., B, Q, C\) with B = 2 and C = 5",
        ),
        (torch.zeros(3, 4), torch.zeros(2, 4, 6, 6), {}, "mask_embed must be"),
        (torch.zeros(2, 3, 4), torch.zeros(4, 6, 6), {}, r"mask_features must be \(B, C, h, w\)"),
        (torch.zeros(2, 3, 4), torch.zeros(2, 4, 6, 6), {"activation": "relu"}, "activation must be one of"),
    ],
)
def test_misfitting_arguments_are_named(mask_embed, mask_features, options, message):
    with pytest.raises(ValueError, match=message):
        mask_dot(mask_embed, mask_features, **options)
    with pytest.raises(TypeError, match="mask_embed must have a floating dtype"):
        mask_dot(mask_embed.long(), mask_features)


def test_compiles_without_graph_breaks():
    compiled = torch.compile(lambda a, b: mask_dot(a, b, activation="sigmoid"), fullgraph=True, backend="aot_eager")
    mask_embed, mask_features = torch.randn(3, 2, 7, 16), torch.randn(2, 16, 5, 9)
    expected = mask_dot(mask_embed, mask_features, activation="sigmoid")
    torch.testing.assert_close(compiled(mask_embed, mask_features), expected)
