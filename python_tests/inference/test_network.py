"""What the network is given: images normalised and padded as in training, without needless copies."""

from __future__ import annotations

import pytest
import torch

from maskformer_ext.inference.network import batch_of, network_input

MEAN, STD = torch.tensor([120.0, 110.0, 100.0]), torch.tensor([58.0, 57.0, 56.0])


@pytest.mark.parametrize(
    ("size", "multiple", "padded"),
    [((40, 50), 32, (64, 64)), ((32, 64), 32, (32, 64)), ((5, 7), 1, (5, 7)), ((5, 7), 0, (5, 7))],
)
def test_images_are_normalised_and_padded_with_zeros(size, multiple: int, padded: tuple[int, int]) -> None:
    pixels = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    images = network_input(pixels, MEAN, STD, multiple)
    assert images.dtype == torch.float32 and tuple(images.shape) == (2, 3, *padded)
    expected = (pixels.float() - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
    assert torch.equal(images[..., : size[0], : size[1]], expected)
    assert not images[..., size[0] :, :].any() and not images[..., size[1] :].any()


def test_one_image_is_a_batch_without_a_copy() -> None:
    image = torch.randint(0, 256, (3, 8, 9), dtype=torch.uint8)
    assert batch_of([image]).data_ptr() == image.data_ptr()
    assert torch.equal(batch_of([image, image + 1]), torch.stack([image, image + 1]))
