"""mask_dot: the plain product, activations, dtypes, strides, gradients, threads, bad input."""

import importlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_checks import LARGEST_ERROR, at_thread_counts, error, native_only, shifted

from maskformer_ext.ops import mask_dot

reference = importlib.import_module("maskformer_ext.ops.mask_dot").mask_dot_reference


def product(mask_embed, mask_features):
    return torch.einsum("...bqc,bchw->...bqhw", mask_embed, mask_features)


NONE, SIGMOID, BINARY = range(3)
Shape = tuple[tuple[int, ...], int, int, int, tuple[int, int]]
SHAPES: list[Shape] = [  # layers, images, queries, channels, (h, w)
    ((2,), 2, 3, 8, (3, 5)),
    ((), 1, 100, 40, (16, 9)),
    ((3,), 1, 45, 33, (8, 16)),
    ((), 2, 130, 64, (2, 72)),
    ((1, 2), 1, 1, 1, (1, 1)),
]


def draw(layers, images, queries, channels, size, dtype=torch.float32):
    torch.manual_seed(5)
    return torch.randn(*layers, images, queries, channels).to(dtype), torch.randn(images, channels, *size).to(dtype)


def exact(mask_embed, mask_features):
    return product(mask_embed.double(), mask_features.double())


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", ["none", "sigmoid", "binary"])
@pytest.mark.parametrize("channels", [256, 33])
def test_many_channels(kernels, activation, dtype, channels, channels_last):
    queries, size = (100, (24, 31)) if kernels.large else (10, (6, 7))
    mask_embed = (torch.randn(3, 2, queries, channels) / channels**0.5).to(dtype)
    mask_features = torch.randn(2, channels, *size).to(dtype)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    pair = mask_embed, mask_features.to(memory_format=memory_format)
    expected = exact(mask_embed, mask_features)
    if activation == "binary":
        found = kernels.mask_dot(*pair, activation="binary")
        assert not (found != (expected > 0))[expected.abs() > 1e-4 * expected.abs().max()].any()
        return
    found = kernels.mask_dot(*pair, activation=activation, out_dtype=torch.float32)
    assert error(found, expected.sigmoid() if activation == "sigmoid" else expected) <= LARGEST_ERROR


@pytest.mark.cuda_kernels
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float32_is_as_exact_as_float32(kernels, shape, channels_last):
    mask_embed, mask_features = draw(*shape)
    given = mask_features.to(memory_format=torch.channels_last) if channels_last else mask_features
    truth = exact(mask_embed, mask_features)
    found = kernels.native.mask_dot(mask_embed, given, NONE, torch.float32, False)
    assert error(found, truth) <= LARGEST_ERROR
    rounded = kernels.native.mask_dot(mask_embed, given, NONE, torch.float32, True)
    assert error(rounded, truth) <= 2e-3
    if shape[3] > 8:
        assert error(rounded, truth) > LARGEST_ERROR  # it is TF32 that was asked for


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_16_bit_operands_are_summed_in_float32(kernels, shape: Shape, dtype, channels_last):
    mask_embed, mask_features = draw(*shape, dtype)
    given = mask_features.to(memory_format=torch.channels_last) if channels_last else mask_features
    found = kernels.native.mask_dot(mask_embed, given, NONE, torch.float32, False)
    assert error(found, exact(mask_embed, mask_features)) <= LARGEST_ERROR


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_activations_and_outputs(kernels, dtype):
    mask_embed, mask_features = draw((), 2, 7, 16, (9, 11))
    truth = exact(mask_embed, mask_features)
    allowed = {torch.float32: LARGEST_ERROR, torch.bfloat16: 4e-3, torch.float16: 5e-4}[dtype]
    assert error(kernels.native.mask_dot(mask_embed, mask_features, SIGMOID, dtype, False), truth.sigmoid()) <= allowed
    assert error(kernels.native.mask_dot(mask_embed, mask_features, NONE, dtype, False), truth) <= allowed
    assert torch.equal(kernels.native.mask_dot(mask_embed, mask_features, BINARY, torch.bool, False), truth > 0)
    assert torch.equal(kernels.native.mask_dot(mask_embed, mask_features, BINARY, dtype, False), (truth > 0).to(dtype))


def test_strides_and_two_dtypes(kernels):
    mask_embed, mask_features = draw((2,), 2, 6, 24, (10, 8))
    truth = exact(mask_embed, mask_features)
    for features in (
        mask_features.repeat_interleave(2, 1)[:, ::2],
        mask_features.repeat_interleave(2, 3)[..., ::2],
        mask_features.mT.contiguous().mT,
        torch.cat([mask_features, mask_features])[:2],
        mask_features[:, :, :1].expand_as(mask_features),
    ):
        found = kernels.native.mask_dot(mask_embed.mT.contiguous().mT, features, NONE, torch.float32, False)
        assert error(found, exact(mask_embed, features)) <= LARGEST_ERROR
    for features in (  # neither a pixel's neighbour nor its next channel is the next element
        mask_features.repeat_interleave(2, 3)[..., :1],
        mask_features.repeat_interleave(2, 2)[:, :, ::2, :1],
        mask_features[:, :, :1, :1],
    ):
        found = kernels.native.mask_dot(mask_embed, features, NONE, torch.float32, False)
        assert error(found, exact(mask_embed, features)) <= LARGEST_ERROR
    one = mask_features[:, :1].repeat_interleave(2, 3)[..., ::2]  # nor where there is one channel
    found = kernels.native.mask_dot(mask_embed[..., :1], one, NONE, torch.float32, False)
    assert error(found, exact(mask_embed[..., :1], one)) <= LARGEST_ERROR
    mixed = kernels.native.mask_dot(mask_embed.half(), mask_features.bfloat16(), NONE, torch.float32, False)
    assert error(mixed, exact(mask_embed.half(), mask_features.bfloat16())) <= LARGEST_ERROR
    assert error(mixed, truth) <= 2e-2


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("queries", "channels", "size"), [(70, 48, (16, 9)), (67, 37, (13, 11)), (3, 5, (1, 7))])
def test_memory_that_begins_anywhere(kernels, queries, channels, size, dtype, channels_last):
    mask_embed, mask_features = draw((2,), 1, queries, channels, size, dtype)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    mask_features = mask_features.to(memory_format=memory_format)
    expected = kernels.native.mask_dot(mask_embed, mask_features, NONE, torch.float32, False)
    for offsets in ((1, 0), (0, 1), (2, 7), (4, 4), (7, 2)):
        given = (shifted(x, by) for x, by in zip((mask_embed, mask_features), offsets, strict=True))
        assert torch.equal(kernels.native.mask_dot(*given, NONE, torch.float32, False), expected)


def test_what_is_not_finite_stays_so(kernels):
    mask_embed, mask_features = draw((), 1, 4, 16, (4, 4))
    mask_embed[0, 1, 3], mask_embed[0, 2, 5] = torch.nan, torch.inf
    for dtype in (torch.float32, torch.bfloat16):
        found = kernels.native.mask_dot(mask_embed.to(dtype), mask_features.to(dtype), NONE, torch.float32, False)
        assert not found[0, 1:3].isfinite().any() and found[0, [0, 3]].isfinite().all()


def test_nothing_to_multiply(kernels):
    for layers, images, queries, size in (((0,), 2, 3, (4, 4)), ((), 2, 0, (4, 4)), ((), 2, 3, (0, 4))):
        mask_embed, mask_features = draw(layers, images, queries, 8, size)
        found = kernels.native.mask_dot(mask_embed, mask_features, NONE, torch.float32, False)
        assert found.shape == (*layers, images, queries, *size)
    mask_embed, mask_features = draw((), 1, 3, 0, (4, 4))
    assert (kernels.native.mask_dot(mask_embed, mask_features, NONE, torch.float32, False) == 0).all()


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


@given(
    layers=st.sampled_from([(), (1,), (3,)]),
    batch=st.integers(0, 3),
    queries=st.integers(0, 9),
    channels=st.integers(1, 70),
    height=st.integers(1, 15),
    width=st.integers(1, 40),
    layout=st.sampled_from(["contiguous", "channels_last", "cropped", "transposed"]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_any_shape_and_layout_is_close_to_float64(layers, batch, queries, channels, height, width, layout, seed):
    torch.manual_seed(seed)
    mask_embed = torch.randn(*layers, batch, queries, channels)
    mask_features = {
        "contiguous": lambda: torch.randn(batch, channels, height, width),
        "channels_last": lambda: torch.randn(batch, height, width, channels).permute(0, 3, 1, 2),
        "cropped": lambda: torch.randn(batch, channels, height + 2, width + 3)[..., 1:-1, 2:-1],
        "transposed": lambda: torch.randn(batch, channels, width, height).mT,
    }[layout]()
    truth = product(mask_embed.double(), mask_features.double())
    logits = mask_dot(mask_embed, mask_features)
    assert logits.shape == truth.shape
    assert error(logits, truth) <= LARGEST_ERROR
    assert error(mask_dot(mask_embed, mask_features, activation="sigmoid"), truth.sigmoid()) <= LARGEST_ERROR


@pytest.mark.parametrize("pixels", [191, 192, 193, 400])
def test_strided_embeddings_and_the_edges_of_panels(pixels):
    mask_embed, mask_features = torch.randn(5, 6, 2, 3), torch.randn(6, 5, 1, pixels)
    strided = mask_embed.permute(2, 1, 3, 0)  # (2, 6, 3, 5)
    assert error(mask_dot(strided, mask_features), product(strided.double(), mask_features.double())) <= LARGEST_ERROR


def test_numbers_that_are_not_finite_stay_where_they_are():
    mask_embed, mask_features = torch.randn(1, 3, 8), torch.randn(1, 8, 4, 9)
    mask_embed[0, 1, 2] = torch.nan
    mask_features[0, 5, 2, 3] = torch.inf
    logits = mask_dot(mask_embed, mask_features)
    assert logits[0, 1].isnan().all()
    bad = torch.zeros(4, 9, dtype=torch.bool)
    bad[2, 3] = True
    assert (logits[0, [0, 2]].isfinite() == ~bad).all()


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_gradients_are_those_of_the_reference(kernels, activation, dtype, layout):
    mask_embed, mask_features = torch.randn(2, 2, 7, 16).to(dtype), torch.randn(2, 16, 9, 11).to(dtype)
    if layout == "channels_last":
        mask_features = mask_features.to(memory_format=torch.channels_last)
    weight = torch.randn(2, 2, 7, 9, 11)
    inputs = [x.clone().requires_grad_() for x in (mask_embed, mask_features)]
    wide = [x.double().requires_grad_() for x in (mask_embed, mask_features)]
    out = kernels.mask_dot(*inputs, activation=activation, out_dtype=torch.float32)
    ours = torch.autograd.grad((out * weight).sum(), inputs)
    truth = torch.autograd.grad((reference(*wide, activation, torch.float64) * weight).sum(), wide)
    for gradient, expected in zip(ours, truth, strict=True):
        assert gradient.dtype == dtype
        assert error(gradient, expected) <= (LARGEST_ERROR if dtype == torch.float32 else 8e-3)


@native_only
def test_threads_do_not_change_a_bit():
    mask_embed, mask_features = torch.randn(2, 3, 25, 48), torch.randn(3, 48, 33, 45)
    at_thread_counts(lambda: mask_dot(mask_embed, mask_features, activation="sigmoid"))
    inputs = mask_embed.requires_grad_(), mask_features.requires_grad_()
    at_thread_counts(lambda: mask_dot(*inputs).detach())


@pytest.mark.parametrize("shape", [(0, 1, 3, 5), (2, 1, 0, 5), (2, 1, 3, 0), (2, 0, 3, 5)], ids=str)
@pytest.mark.parametrize("size", [(4, 4), (0, 4)], ids=str)
def test_gradients_without_elements_have_the_inputs_shapes(shape, size):
    embed = torch.zeros(shape, requires_grad=True)
    features = torch.zeros(shape[1], shape[3], *size, requires_grad=True)
    logits = mask_dot(embed, features)
    assert logits.shape == (*shape[:3], *size)
    gradients = torch.autograd.grad(logits.sum(), (embed, features))
    assert [gradient.shape for gradient in gradients] == [embed.shape, features.shape]
