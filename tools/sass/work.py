"""Declares what each kernel does: its unit of work, how to see one in machine code, and the work at a standard size.

A marker is an opcode that every unit has a fixed number of times, such as one MUFU.EX2 for the sigmoid of a pixel. The
units of an iteration follow from its markers, so that unrolling a loop changes no count.
"""

from __future__ import annotations

from dataclasses import dataclass

from sass.path import EACH, FEWEST, MOST


@dataclass(frozen=True)
class Stage:
    """One loop of a kernel. The numbers of `special` and `fma` are those that the arithmetic needs, for a unit."""

    name: str
    folder: str  # of csrc/, whose .cu files have the kernel
    kernel: str  # a regular expression that its short name begins with
    unit: str
    marker: str  # a regular expression of opcodes
    marks: float = 1  # markers of a unit; 0: an iteration is `fixed` units, whatever it contains
    fixed: float = 0
    needs: str = ""  # an opcode that the loop has, to tell it from others with the marker
    avoid: str = ""  # opcodes of ways for unusual values
    select: str = FEWEST
    outer: float = 0  # units of a thread in an iteration of the enclosing loop, whose share is then added
    special: float = 0
    fma: float = 0
    per_warp: bool = False  # a unit is the work of a warp, not of a thread
    near: bool = False  # its loads mostly hit the first-level cache


@dataclass(frozen=True)
class Part:
    """A stage and how many units a call has; `chain`: units that a block does one after the other, and the blocks."""

    stage: Stage
    units: float
    blocks: int = 0


@dataclass(frozen=True)
class Work:
    """A call at a standard size."""

    title: str
    parts: tuple[Part, ...]
    bytes: float  # that must pass memory
    flops: float = 0  # on tensor cores
    half_rate: bool = False  # the product is in TF32


MMA = 4096.0  # operations of one product of a warp in bfloat16: 16 x 8 x 16
MMA_TF32 = 2048.0  # and in TF32: 16 x 8 x 8
PIXELS = 1024 * 2048  # of an image at inference
PLANE = 128 * 128  # logits of a mask in training

_DOUBLE = r"D(ADD|MUL|FMA|SETP)"  # never in the loop over pixels, but in the one over segments

SWEEP = Stage(
    "mask_loss sweep", "mask_loss", r"mask_loss_sweep_kernel<(float, true|\(Gamma\)0, false, true, true)", "pixel",
    r"MUFU\.EX2", needs=r"LDG", special=2, fma=34, outer=4,
)  # fmt: skip
MASK_BWD = Stage("mask_loss backward", "mask_loss", r"mask_loss_bwd_kernel<float", "logit", r"STG",
                 needs=r"LDG", select=EACH, fma=4)  # fmt: skip
MATCHING = Stage(
    "matching_cost map", "matching_cost", r"map_cost_kernel<(true, 2, )?float, float", "pixel", r"MUFU\.RCP",
    needs=r"MUFU\.EX2", avoid=_DOUBLE, select=EACH, special=2, fma=24, outer=32,
)  # fmt: skip
OVERLAPS = Stage(  # a pixel once for a word of 24 masks, and the sums over a warp every 32 pixels of a thread
    "matching_cost masks", "matching_cost", r"mask_cost_kernel<true, float, float", "pixel and segment",
    r"MUFU\.EX2|FADD|FSEL", marks=0, fixed=24, needs=r"MUFU\.RCP", select=MOST, outer=24 * 32, special=0.1, fma=3,
)  # fmt: skip
SCAN = Stage(
    "linear_sum_assignment scan", "linear_sum_assignment",
    r"block_assignment_kernel<4, 3, (0, )?float", "scan", r"LDG|LD\b|LD\.", marks=0, fixed=1, needs=r"BAR", select=MOST,
    per_warp=True,
)  # fmt: skip
PRODUCT = Stage("mask_dot bfloat16", "mask_dot", r"mask_dot_kernel<BFloat16Product, false", "product",
                r"HMMA", select=MOST, per_warp=True)  # fmt: skip
PRODUCT_SPLIT = Stage("mask_dot float32", "mask_dot", r"mask_dot_kernel<SplitTF32Product, false", "product",
                      r"HMMA", select=MOST, per_warp=True)  # fmt: skip
PAIRS = Stage("pair_dot forward", "pair_dot", r"pair_dot_fwd_kernel<BFloat16Product, false", "product",
              r"HMMA", select=MOST, per_warp=True)  # fmt: skip
PAIRS_FEATURES = Stage("pair_dot features", "pair_dot", r"grad_features_kernel<BFloat16Product", "product",
                       r"HMMA", select=MOST, per_warp=True)  # fmt: skip
PAIRS_EMBED = Stage("pair_dot embeddings", "pair_dot", r"grad_embed_kernel<BFloat16Product, false",
                    "product", r"HMMA", select=MOST, per_warp=True)  # fmt: skip
FILL = Stage(
    "semantic_inference fill", "semantic_inference", r"semantic_labels_kernel<float, 2, 10",
    "pixel and query", r"MUFU\.EX2", needs=r"STS", select=EACH, special=2, fma=10, near=True,
)  # fmt: skip
LABELS = Stage(
    "semantic_inference product", "semantic_inference",
    r"semantic_labels_kernel<float, 2, 10", "product", r"HMMA", select=MOST, per_warp=True, near=True,
)  # fmt: skip
SCORES_FILL = Stage(
    "semantic_scores fill", "semantic_inference", r"semantic_scores_kernel<float, 2, 10",
    "pixel and query", r"MUFU\.EX2", needs=r"STS", select=EACH, special=2, fma=10, near=True,
)  # fmt: skip
SCORES = Stage("semantic_scores sum", "semantic_inference", r"semantic_scores_kernel<float, 2, 10",
               "FMA", r"FFMA", needs=r"LDS", select=EACH, fma=1)  # fmt: skip
WINNERS = Stage(
    "panoptic_inference winners", "panoptic_inference",
    r"panoptic_winners_kernel<float, ResizedLogit<2>", "pixel and query", r"MUFU\.EX2", marks=0, fixed=4,
    needs=r"REDUX", select=MOST, special=2, fma=10, near=True,
)  # fmt: skip
INSTANCES = Stage(
    "instance_inference masks", "instance_inference", r"instance_masks_kernel<float, 2",
    "pixel and query", r"MUFU\.EX2", needs=r"LDG", select=MOST, special=2, fma=10, near=True,
)  # fmt: skip
DICE = Stage("dice_loss forward", "dice_loss", r"dice_loss_fwd_kernel<float, unsigned char", "pixel",
             r"MUFU\.EX2", select=EACH, special=2, fma=6)  # fmt: skip
DICE_BWD = Stage("dice_loss backward", "dice_loss", r"dice_loss_bwd_kernel<float, unsigned char", "pixel",
                 r"MUFU\.EX2", select=EACH, special=2, fma=5)  # fmt: skip
FOCAL = Stage(
    "sigmoid_focal_loss forward", "sigmoid_focal_loss",
    r"sigmoid_focal_loss_fwd_kernel<float, float", "pixel", r"MUFU\.EX2", needs=r"STG", select=EACH, special=2, fma=24,
)  # fmt: skip
FOCAL_BWD = Stage(
    "sigmoid_focal_loss backward", "sigmoid_focal_loss",
    r"sigmoid_focal_loss_bwd_kernel<float, float", "pixel", r"MUFU\.EX2", needs=r"STG", select=EACH, special=2, fma=26,
)  # fmt: skip
DEFORM = Stage(
    "ms_deform_attn forward", "ms_deform_attn", r"ms_deform_attn_fwd_kernel<float, 4",
    "point and four channels", r"LDG", marks=4, needs=r"LDS", select=MOST, fma=20, outer=12,
)  # fmt: skip
DEFORM_BWD = Stage(
    "ms_deform_attn backward", "ms_deform_attn", r"ms_deform_attn_bwd_kernel<float, 4",
    "point and four channels", r"RED|LDG\.E\.128", marks=0, fixed=1, needs=r"RED", avoid=r"REDG\.E\.OR", select=MOST,
    fma=48,
)  # fmt: skip
CANDIDATES = Stage(
    "uncertain_points keys", "uncertain_points", r"uncertain_points_keys_kernel<float",
    "candidate", r"LDG", marks=6, select=MOST, fma=12, near=True,
)  # fmt: skip
POINT_SUMS = Stage(
    "point_mask_loss sums", "point_mask_loss", r"point_mask_loss_sums_kernel<float", "point",
    r"MUFU\.EX2", special=2, fma=30, near=True,
)  # fmt: skip
POINT_GRADS = Stage(
    "point_mask_loss gradients", "point_mask_loss", r"point_mask_loss_grads_kernel<float", "point",
    r"MUFU\.EX2", special=2, fma=32, near=True,
)  # fmt: skip
POINT_SCATTER = Stage(
    "point_mask_loss scatter", "point_mask_loss", r"point_mask_loss_scatter_kernel", "point",
    r"RED|ATOM", marks=4, avoid=r"REDG\.E\.OR", select=MOST, fma=8,
)  # fmt: skip
POINT_BWD = Stage("point_mask_loss pixels", "point_mask_loss", r"point_mask_loss_bwd_kernel<float",
                  "pixel", r"STG", needs=r"LDG", select=EACH, fma=2)  # fmt: skip
POINT_COST = Stage(  # as for overlapping masks; two queries share a point and the shares of 24 segments
    "point_matching_cost", "point_matching_cost", r"point_cost_kernel<2, false, float, float",
    "query, point and segment", r"MUFU\.EX2|FFMA|LDG", marks=0, fixed=48, needs=r"MUFU\.RCP", select=MOST,
    avoid=r"LDS|BAR", outer=48 * 32, special=0.1, fma=5, near=True,
)  # fmt: skip
SAMPLES = Stage("sampled features", "point_matching_cost", r"sample_features_kernel<float",
                "value", r"STG", needs=r"LDG", select=MOST, fma=4)  # fmt: skip
PLANES = Stage("attention_mask planes", "attention_mask", r"resize_planes_kernel<float", "value",
               r"STG", needs=r"LDG", select=MOST, fma=8)  # fmt: skip
BOXES = Stage("box_matching_cost pairs", "box_matching_cost",
              r"box_matching_cost_fwd_kernel<float, float", "pair", r"LDG|MUFU", marks=0, fixed=1, needs=r"STG",
              select=MOST, special=4, fma=40)  # fmt: skip

_TRAINING = 320 * 512 * 512  # target pixels of 320 masks
_MATCHED = 96 * 100 * PLANE  # logits of 6 layers, 16 images and 100 queries
_TILE_ROWS = 640  # 6 layers of 100 queries, in tiles of 128 rows
_POINTS = 400 * 12544
_DEFORM = 2 * 5376 * 8 * 12 * 8  # images, queries, heads, points, groups of four channels

WORKS = (
    Work("`mask_loss` forward and backward, 320 masks 128x128 -> 512x512",
         (Part(SWEEP, _TRAINING), Part(MASK_BWD, 320 * PLANE)), _TRAINING + 8 * 4 * 320 * PLANE),
    Work("`matching_cost`, B 16, L 6, Q 100, T 20, 128x128", (Part(MATCHING, _MATCHED),), 4 * _MATCHED),
    Work("the same, overlapping masks", (Part(OVERLAPS, 24 * _MATCHED),), 4 * _MATCHED),
    Work("`matching_cost_from_embeddings`, the same size, bfloat16",
         (Part(PRODUCT, 2 * 16 * _TILE_ROWS * 256 * PLANE / MMA), Part(MATCHING, _MATCHED)), 2 * 16 * 256 * PLANE,
         flops=2 * 96 * 100 * 256 * PLANE),
    Work("`linear_sum_assignment`, 208 of 300x300, 40,000 scans", (Part(SCAN, 40000, blocks=208),), 208 * 360e3),
    Work("`mask_dot`, B 16, L 6, Q 100, C 256, 128x128, bfloat16",
         (Part(PRODUCT, 2 * 16 * _TILE_ROWS * 256 * PLANE / MMA),), 2 * 16 * 256 * PLANE + 4 * _MATCHED,
         flops=2 * 96 * 100 * 256 * PLANE),
    Work("the same in float32, as three TF32 products",
         (Part(PRODUCT_SPLIT, 3 * 2 * 16 * _TILE_ROWS * 256 * PLANE / MMA_TF32),), 4 * 16 * 256 * PLANE + 4 * _MATCHED,
         flops=3 * 2 * 96 * 100 * 256 * PLANE, half_rate=True),
    Work("`pair_dot` forward and backward, 320 pairs, 6 layers, C 256, 128x128, bfloat16",
         tuple(Part(stage, 2 * 16 * 128 * 256 * PLANE / MMA) for stage in (PAIRS, PAIRS_FEATURES, PAIRS_EMBED)),
         3 * 2 * 16 * 256 * PLANE + 3 * 2 * 1920 * PLANE, flops=3 * 2 * 1920 * 256 * PLANE),
    Work("`semantic_inference`, Q 100, K 150, 256x512 -> 1024x2048",
         (Part(FILL, 100 * PIXELS), Part(LABELS, 2 * PIXELS * 112 * 160 / MMA)), 4 * 100 * PIXELS / 16 + 8 * PIXELS,
         flops=2 * PIXELS * 112 * 160),
    Work("`semantic_scores`, the same", (Part(SCORES_FILL, 100 * PIXELS), Part(SCORES, PIXELS * 100 * 150)),
         4 * 100 * PIXELS / 16 + 4 * 150 * PIXELS),
    Work("`panoptic_inference`, 30 queries that matter everywhere", (Part(WINNERS, 30 * PIXELS),),
         30 * 4 * PIXELS / 16 + 12 * PIXELS),
    Work("`instance_masks`, 30 queries, all inside", (Part(INSTANCES, 30 * PIXELS),),
         30 * 4 * PIXELS / 16 + 30 * PIXELS / 8),
    Work("`dice_loss` forward and backward, 20 masks 512x512",
         (Part(DICE, 20 * 512 * 512), Part(DICE_BWD, 20 * 512 * 512)), 14 * 20 * 512 * 512),
    Work("`sigmoid_focal_loss` forward and backward, 20 masks 512x512",
         (Part(FOCAL, 20 * 512 * 512), Part(FOCAL_BWD, 20 * 512 * 512)), 28 * 20 * 512 * 512),
    Work("`ms_deform_attn`, B 2, 5376 queries, H 8, D 32, 12 points", (Part(DEFORM, _DEFORM),), 33e6),
    Work("its backward", (Part(DEFORM_BWD, _DEFORM),), 90e6),
    Work("`uncertain_points`, 400 masks 128x128, 37,632 candidates, keys", (Part(CANDIDATES, 400 * 37632),), 200e6),
    Work("`point_mask_loss`, 400 masks 128x128, 12,544 points, a map", (Part(POINT_SUMS, _POINTS),), 67e6),
    Work("its backward", (Part(POINT_GRADS, _POINTS), Part(POINT_SCATTER, _POINTS), Part(POINT_BWD, 400 * PLANE)),
         335e6),
    Work("`point_matching_cost`, L 10, B 2, Q 100, T 20, 12,544 points",
         (Part(POINT_COST, 20 * 100 * 24 * 12544),), 134e6),
    Work("`point_matching_cost_from_embeddings`, sampling alone, C 256", (Part(SAMPLES, 20 * 256 * 12544),), 33e6),
    Work("`attention_mask`, B 2, C 256, 128x128 to 64x64, resizing alone", (Part(PLANES, 2 * 256 * 64 * 64),), 42e6),
    Work("`box_matching_cost`, B 8, 3900 queries, T 30", (Part(BOXES, 8 * 3900 * 30),), 13e6),
)  # fmt: skip


def stages() -> list[Stage]:
    """Return every stage once, in the order of the works."""
    return list(dict.fromkeys(part.stage for work in WORKS for part in work.parts))
