"""matching_cost_from_embeddings equals matching_cost of the logits."""

import pytest
import torch
from test_matching_cost import random_targets

from maskformer_ext.ops import mask_dot, matching_cost, matching_cost_from_embeddings


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cost_from_embeddings_equals_that_of_the_logits(dtype):
    targets = random_targets(2, [5, 3], 5, (40, 52), 6)
    class_logits = torch.randn(3, 2, 8, 7)
    mask_embed, mask_features = torch.randn(3, 2, 8, 16).to(dtype), torch.randn(2, 16, 20, 26).to(dtype)
    mask_logits = mask_dot(mask_embed, mask_features, out_dtype=torch.float32)
    for form in (targets, targets.to_masks()):
        for options in ({}, {"ignore_void": True} if form is targets else {}, {"alpha": -1.0, "gamma": 0.0}):
            ours = matching_cost_from_embeddings(class_logits, mask_embed, mask_features, form, **options)
            torch.testing.assert_close(ours, matching_cost(class_logits, mask_logits, form, **options))
    one_layer = matching_cost_from_embeddings(class_logits[0], mask_embed[0], mask_features, targets)
    torch.testing.assert_close(one_layer, matching_cost(class_logits[0], mask_logits[0], targets))


def test_misfitting_arguments_are_named():
    targets = random_targets(2, [5, 3], 5, (40, 52), 6)
    with pytest.raises(ValueError, match=r"class_logits must be \(\.\.\., B, Q, K \+ 1\)"):
        matching_cost_from_embeddings(torch.zeros(2, 8, 7), torch.zeros(2, 9, 4), torch.zeros(2, 4, 5, 5), targets)
    with pytest.raises(ValueError, match="mask_embed must be"):
        matching_cost_from_embeddings(torch.zeros(2, 8, 7), torch.zeros(2, 8, 3), torch.zeros(2, 4, 5, 5), targets)
    with pytest.raises(ValueError, match="targets must hold B = 1 images"):
        matching_cost_from_embeddings(torch.zeros(1, 8, 7), torch.zeros(1, 8, 4), torch.zeros(1, 4, 5, 5), targets)


def test_there_is_no_gradient():
    targets = random_targets(2, [5, 3], 5, (40, 52), 6)
    mask_embed = torch.randn(2, 8, 4, requires_grad=True)
    cost = matching_cost_from_embeddings(torch.randn(2, 8, 7), mask_embed, torch.randn(2, 4, 5, 5), targets)
    assert not cost.requires_grad
