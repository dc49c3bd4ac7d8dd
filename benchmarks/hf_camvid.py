"""Train transformers' MaskFormer on CamVid with our data, sizes, optimiser and time, to compare the scores.

    python -m benchmarks.hf_camvid --minutes 60 [--initialisation transformers] [key=value ...]

Only the network, its initialisation and its losses are transformers' own. The recipe `camvid` (or `--config`) gives
all else:

- backbone weights, crops and augmentation, batch size;
- AdamW groups, learning rates, clipping and weight average;
- evaluation.

How many steps the minutes hold is not known before. So the schedule follows the share of them that has passed.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import DetrConfig, MaskFormerConfig, MaskFormerForInstanceSegmentation, TimmBackboneConfig

from benchmarks import scenes
from maskformer_ext.checkpoints.backbone_weights import load_timm_backbone
from maskformer_ext.config import Config, ModelConfig
from maskformer_ext.config.load import load_config
from maskformer_ext.data.build import build_dataset, build_loader
from maskformer_ext.data.types import Batch
from maskformer_ext.engine.average import WeightAverage
from maskformer_ext.engine.optimizer import build_optimizer, clip_grad_norm
from maskformer_ext.engine.schedule import learning_rate_factor, set_learning_rate
from maskformer_ext.evaluation.run import evaluate
from maskformer_ext.inference.allocator import keep_freed_memory
from maskformer_ext.modeling.backbone import freeze_batch_norm
from maskformer_ext.modeling.maskformer import MaskFormerOutput
from maskformer_ext.ops import SegmentTargets

_ENDLESS = 1_000_000  # more steps than the time can hold


class TransformersMaskFormer(nn.Module):
    """transformers' MaskFormer behind the interface that our evaluation uses.

    Args:
        config: sizes, as our model's; `num_classes` must be set.
        initialisation: `original` initialises as the original does: query embeddings from N(0, 1), the transformer's
            matrices from Xavier's uniform distribution. `transformers` keeps its standard deviation of 0.02 for both.
    """

    def __init__(self, config: ModelConfig, initialisation: str = "original") -> None:
        super().__init__()
        self.config, self.num_classes = config, config.num_classes
        backbone = TimmBackboneConfig(backbone=config.backbone, features_only=True, out_indices=[1, 2, 3, 4])  # type: ignore[call-arg]
        decoder = DetrConfig(
            d_model=config.hidden_dim,
            decoder_layers=config.decoder_layers,
            decoder_attention_heads=config.num_heads,
            decoder_ffn_dim=config.feedforward_dim,
            encoder_attention_heads=config.num_heads,
            num_queries=config.num_queries,
            dropout=config.dropout,
        )
        model = MaskFormerForInstanceSegmentation(
            MaskFormerConfig(
                backbone_config=backbone,
                decoder_config=decoder,
                fpn_feature_size=config.pixel_decoder_dim,
                mask_feature_size=config.mask_dim,
                use_auxiliary_loss=config.deep_supervision,
                num_labels=config.num_classes,  # type: ignore[call-arg]
            )
        )
        # The optimiser knows the parameters of the backbone by this name, so it is set before the rest.
        self.backbone = model.model.pixel_level_module.encoder
        self.model = model
        # After its own initialisation, which would otherwise draw the batch norms of the backbone anew.
        if config.backbone_weights:
            load_timm_backbone(self.backbone._backbone, config.backbone, config.backbone_weights)
        if config.freeze_batch_norm:
            freeze_batch_norm(self.backbone)
        if initialisation == "original":
            transformer = self.model.model.transformer_module
            nn.init.normal_(transformer.queries_embedder.weight, std=config.query_init_std)
            for parameter in transformer.decoder.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)

    def loss(self, batch: Batch, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
        """Return transformers' own training loss, with one float mask per segment, as it takes them."""
        targets = batch.targets
        assert isinstance(targets, SegmentTargets)  # the recipe has no overlapping segments
        counts = targets.num_segments.tolist()
        masks = [scenes.masks_of(owners, n).float() for owners, n in zip(targets.segment_map, counts, strict=True)]
        labels = [row[:n] for row, n in zip(targets.labels, counts, strict=True)]
        images, deep = batch.normalized(layout), self.config.deep_supervision
        return self.model(images, mask_labels=masks, class_labels=labels, output_hidden_states=deep).loss

    def forward(self, images: Tensor) -> MaskFormerOutput:
        """Return the prediction of the last layer. Its mask embeddings are an identity: the logits are ready-made."""
        out = self.model(images, output_hidden_states=self.config.deep_supervision)
        logits = out.masks_queries_logits
        identity = torch.eye(logits.shape[1], device=logits.device, dtype=logits.dtype)
        embed = identity.expand(1, len(logits), -1, -1)
        return MaskFormerOutput(out.class_queries_logits[None], embed, logits)


def train(model: TransformersMaskFormer, config: Config, seconds: float) -> tuple[nn.Module, int, float]:
    """Train for some seconds; return the model to evaluate, steps and seconds.

    The model is the weight average where the recipe has one.
    """
    optimizer = build_optimizer(model, config.optimizer)
    average = WeightAverage(model, config.train.ema_decay) if config.train.ema_decay else None
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loader = build_loader(replace(config, train=replace(config.train, max_iters=_ENDLESS)), "train")
    batches = iter(loader)
    layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
    model.to(memory_format=layout)
    length = config.train.max_iters
    model.train()
    start, step, recent = time.perf_counter(), 0, []
    while (elapsed := time.perf_counter() - start) < seconds:
        set_learning_rate(optimizer, learning_rate_factor(int(length * elapsed / seconds), length, config.schedule))
        optimizer.zero_grad(set_to_none=True)
        batch = next(batches)
        loss = model.loss(batch, layout)
        loss.backward()
        clip_grad_norm(trained, config.optimizer.clip_norm)
        optimizer.step()
        if average:
            average.update(step)
        step += 1
        recent.append(float(loss.detach()))
        if step % config.train.log_period == 0:
            mean, recent = sum(recent) / len(recent), []
            rate = step * config.train.batch_size / (time.perf_counter() - start)
            print(f"step {step}, {elapsed / 60:.1f} min, loss {mean:.3f}, {rate:.2f} images/s", flush=True)
    spent = time.perf_counter() - start
    del batches
    loader.close()
    return average.model if average else model, step, spent


def main() -> None:
    """Train, evaluate on the validation images, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="training time, without the evaluation")
    parser.add_argument("--config", default="camvid", help="the recipe")
    parser.add_argument("--initialisation", choices=("original", "transformers"), default="original")
    parser.add_argument("--limit", type=int, help="evaluate on so many images only")
    parser.add_argument("overrides", nargs="*", help="key=value, as for maskformer_ext.train")
    arguments = parser.parse_args()
    keep_freed_memory()
    config = load_config(arguments.config, arguments.overrides)
    torch.manual_seed(config.seed)
    validation = build_dataset(config.data, "val")
    model_config = replace(config.model, num_classes=validation.info.num_classes)
    model = TransformersMaskFormer(model_config, arguments.initialisation)
    evaluated, steps, seconds = train(model, config, 60 * arguments.minutes)
    scores = evaluate(evaluated.eval(), validation, config, limit=arguments.limit)
    result = {
        "peer": "transformers",
        "initialisation": arguments.initialisation,
        "minutes": round(seconds / 60, 2),
        "steps": steps,
        "images_per_second": round(steps * config.train.batch_size / seconds, 2),
        "parameters": sum(parameter.numel() for parameter in evaluated.parameters()),
        "mIoU": scores["mIoU"],
        "pACC": scores["pACC"],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
