"""Speed up transformers' MaskFormer with one line: the loss stays what it was, and so do the post-processed results.

The model is built from a configuration, with random weights; ``from_pretrained`` gives a trained one. It needs
``pip install transformers``. Run it with ``python examples/accelerate_transformers.py``.
"""

import time

import torch
from transformers import DetrConfig, MaskFormerConfig, MaskFormerForInstanceSegmentation, SwinConfig

from maskformer_ext.integrations.transformers import accelerate, restore

CLASSES, SIZE = 5, 256
torch.manual_seed(0)

backbone = SwinConfig(
    image_size=SIZE, embed_dim=24, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8], window_size=4, drop_path_rate=0.0
)
backbone.out_features = ["stage1", "stage2", "stage3", "stage4"]
decoder = DetrConfig(d_model=64, encoder_layers=1, decoder_layers=6, decoder_ffn_dim=128, dropout=0.0, num_queries=100)
config = MaskFormerConfig(
    backbone_config=backbone,
    decoder_config=decoder,
    fpn_feature_size=64,
    mask_feature_size=64,
    use_auxiliary_loss=True,
    output_hidden_states=True,
    num_labels=CLASSES,  # type: ignore[call-arg]  # taken, though its types do not list it
)
model = MaskFormerForInstanceSegmentation(config).train()
# The initial queries are nearly alike. Spread them, so that rounding does not decide which one is matched.
torch.nn.init.normal_(model.model.transformer_module.queries_embedder.weight)

# Two images with one boolean mask per segment, as transformers' image processor makes them.
images = torch.randn(2, 3, SIZE, SIZE)
blocks = torch.randint(0, 12, (2, 8, 8)).repeat_interleave(SIZE // 8, 1).repeat_interleave(SIZE // 8, 2)
mask_labels = [(block == torch.arange(12).view(-1, 1, 1)).float() for block in blocks]
class_labels = [torch.arange(12) % CLASSES for _ in blocks]


def step() -> tuple[float, float]:
    """Return the loss and the gradient's norm of one step, and print how long it took."""
    model.zero_grad()
    start = time.perf_counter()
    loss = model(images, mask_labels=mask_labels, class_labels=class_labels).loss
    loss.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    print(f"loss {loss.item():.5f}  {time.perf_counter() - start:.2f} s")
    return loss.item(), norm.item()


print("transformers:")
step()  # the first step of a process is slow
before = step()
accelerate(model)
print("after accelerate(model):")
step()
after = step()
torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
restore(model)  # back to transformers' own code
