"""The configuration of a training run: typed dataclasses, merged from YAML and ``key=value`` by OmegaConf."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class ModelConfig:
    """The network. Sizes of the paper are the defaults."""

    architecture: str = "maskformer"  # maskformer | per_pixel_baseline | per_pixel_baseline_plus
    backbone: str = "resnet50"  # "resnet50", "swin_tiny" (as the original's), or a name of timm's, plain ViTs too
    backbone_weights: str | None = None  # .pth or .safetensors file, "timm" (downloads), "package:efficientnet-lite0"
    freeze_batch_norm: bool = False  # keep the statistics and affine parameters of the backbone's batch norms fixed
    pixel_mean: list[float] = field(default_factory=lambda: [123.675, 116.28, 103.53])
    pixel_std: list[float] = field(default_factory=lambda: [58.395, 57.12, 57.375])
    size_divisibility: int = 32  # images are padded to a multiple of this
    num_classes: int | None = None  # None: what the data set has
    num_queries: int = 100
    query_init_std: float = 1.0  # standard deviation of the query embeddings at initialisation
    query_input: bool = False  # start the decoder from a learned vector for each query instead of zeros
    masked_attention: bool = False  # attend to the inside of the mask of the layer before (Mask2Former)
    pixel_decoder: str = "fpn"  # fpn | transformer_encoder
    encoder_layers: int = 6  # of the transformer-encoder pixel decoder
    pixel_decoder_dim: int = 256  # channels of the pixel decoder
    mask_dim: int = 256  # C: channels of mask embeddings and mask features
    mask_position: bool = False  # encode places in mask features and memory: tells objects apart that look alike
    hidden_dim: int = 256  # width of the transformer
    num_heads: int = 8
    feedforward_dim: int = 2048
    decoder_layers: int = 6
    dropout: float = 0.1
    drop_path: float = 0.3  # of Swin backbones
    decoder_memory: str = "backbone"  # backbone | pixel_decoder: whose map the transformer decoder attends to
    decoder_feature: int = -1  # which level of it (0 = stride 4 .. 3 = stride 32)
    deep_supervision: bool = True
    box_head: bool = False  # predict a box for each query too, which criterion.matching=box needs


@dataclass
class CriterionConfig:
    """The loss and the matching cost."""

    class_weight: float = 1.0
    mask_weight: float = 20.0
    dice_weight: float = 1.0
    no_object_weight: float = 0.1
    alpha: float = 0.25
    gamma: float = 2.0
    ignore_void: bool = False  # leave void and padding out of cost and loss instead of counting them as negatives
    matching: str = "bipartite"  # bipartite (by masks) | box (by boxes) | fixed: query k predicts class k (Q >= K)
    box_weight: float = 5.0  # of the difference of boxes, in the total and in the cost of matching by boxes
    giou_weight: float = 2.0  # of their generalised IoU, likewise


@dataclass
class AugmentationConfig:
    """What happens to a training image, in this order."""

    min_sizes: list[int] = field(default_factory=lambda: [512])  # shortest side, drawn from these; [] = keep
    max_size: int = 2048  # cap of the longest side
    crop_size: list[int] = field(default_factory=lambda: [512, 512])  # height, width; [] = no crop and no padding to it
    pad_to_crop: bool = True  # pad what is smaller than the crop with grey, as part of the picture
    zoom_sizes: list[int] = field(default_factory=list)  # DETR: half of the images are first resized to one of these
    zoom_range: list[int] = field(default_factory=lambda: [384, 600])  # and cropped, with sides between these two
    single_category_max_area: float = 1.0  # redraw a crop where one class covers at least this share; 1 = take any
    color: bool = True  # brightness, contrast, saturation, hue
    horizontal_flip: bool = True
    vertical_flip: bool = False
    rotate90: bool = False  # quarter turns before the crop, for images without an up direction


@dataclass
class DataConfig:
    """Where the images come from."""

    name: str = "digits"  # digits | semantic_folder | coco | yolo | huggingface | another of docs/data.md
    root: str | None = None  # the folder of the data set; None: $MASKFORMER_EXT_DATA/<name>
    task: str = "semantic"  # which targets: semantic | instance | panoptic
    classes_file: str | None = None  # of folder data sets; None: classes.json, classes.txt or labelmap.txt below root
    train_images: str = ""  # own data: folders below root; empty: as the format has them (folders: train/images)
    train_labels: str = ""
    val_images: str = ""
    val_labels: str = ""
    train_json: str = ""  # coco: annotation files below root; empty: as the usual exports lay them
    val_json: str = ""
    image_column: str = ""  # huggingface: columns of images and labels; empty: by their types and names
    label_column: str = ""
    val_share: float = 0.1  # own data without a split: share of the images that validate, drawn by their names
    background: str = "background"  # outlines, tasks with stuff: class of all other pixels; empty: void
    ignore_label: int = 255  # semantic_folder, huggingface: void in label images; 0: their classes count from 1
    exif: bool = True  # turn images and labels upright as the files say; false for labels drawn on the raw image
    max_pixels: int = 0  # the most pixels that an image file may have; 0 = Pillow's limit, 178956970
    num_train: int = 2000  # digits: how many different images are generated
    num_val: int = 200
    image_size: int = 128  # digits: side in pixels
    fine_classes: bool = False  # digits: tell digits apart by texture and size too, 126 classes instead of 16
    drop_empty: bool = False  # drop segments that a crop removed
    overlaps: bool = False  # coco, coco_instance: train on whole masks where instances overlap, not on what lies on top
    on_error: str = "raise"  # raise | skip (counted and reported)
    check: str = "error"  # error | warn | none: a look before training at labels that cannot teach what the classes say
    fit: list[str] = field(default_factory=list)  # keys that training sets from the data, unless they are given
    num_workers: int = 2
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)


@dataclass
class OptimizerConfig:
    """AdamW with the original's parameter groups."""

    lr: float = 1e-4
    backbone_multiplier: float = 0.1
    weight_decay: float = 1e-4
    weight_decay_norm: float = 0.0
    weight_decay_embed: float = 0.0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    clip_norm: float = 0.01  # L2 norm of all gradients together; 0 = no clipping


@dataclass
class ScheduleConfig:
    """The factor on every learning rate."""

    name: str = "poly"  # poly | step | cosine
    power: float = 0.9
    steps: list[int] = field(default_factory=list)  # step: iterations at which the rate falls
    gamma: float = 0.1
    warmup_iters: int = 0
    warmup_factor: float = 1.0  # linear from this to 1


@dataclass
class TrainConfig:
    """The loop."""

    max_iters: int = 1000
    batch_size: int = 16  # images per optimiser step, over all processes and accumulation steps
    accumulation_steps: int = 1
    precision: str = "fp32"  # fp32 | bf16 | fp16
    channels_last: bool = False
    compile: bool = False
    ema_decay: float = 0.0  # evaluate and save an exponential moving average of the weights; 0 = off
    eval_period: int = 0  # iterations; 0 = only at the end
    checkpoint_period: int = 500
    keep_checkpoints: int = 2
    log_period: int = 20
    max_bad_steps: int = 5  # stop after this many steps in a row with a loss that is not finite
    max_minutes: float = 0.0  # stop early (and evaluate) after this time; 0 = no limit


@dataclass
class InferenceConfig:
    """Evaluation and prediction."""

    tasks: list[str] = field(default_factory=list)  # semantic, instance, panoptic; [] = what the data set offers
    min_size: int = 0  # shortest side at test time; 0 = keep the image's size
    max_size: int = 2048
    tta: bool = False  # semantic: average over tta_min_sizes, each plain and (tta_flip) mirrored
    tta_min_sizes: list[int] = field(default_factory=lambda: [400, 500, 600, 700, 800, 900, 1000, 1100, 1200])
    tta_max_size: int = 4000
    tta_flip: bool = True
    resize: str = "scores"  # semantic: scores (the original's semantic recipes) | logits
    semantic: str = "sum"  # a pixel's class: sum (over all queries) | argmax (that of its best query)
    object_mask_threshold: float = 0.8
    overlap_threshold: float = 0.8
    top_k: int = 100
    mask_threshold: float = 0.5
    precision: str = "fp32"  # fp32 | bf16: of the network, where processor or GPU multiplies bfloat16 itself
    tile: int = 0  # side of square tiles in pixels that large images are cut into; 0 = whole images


@dataclass
class Config:
    """Everything that a run depends on; ``maskformer-ext train --help`` prints it."""

    name: str = "run"
    output_dir: str = "output"
    seed: int = 0
    resume: str = "none"  # none | auto | a checkpoint folder
    init_from: str | None = None  # start from these weights: a run, a file or a hub id in any layout that is known
    reset_head: bool = False  # init_from: start with a new classifier, for other classes than those of the weights
    init_keep: list[str] = field(default_factory=list)  # keys that win over init_from's network; by default the given
    eval_untrained: bool = False  # also evaluate before the first step
    model: ModelConfig = field(default_factory=ModelConfig)
    criterion: CriterionConfig = field(default_factory=CriterionConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as plain containers, ready for JSON or YAML."""
    from dataclasses import asdict

    return asdict(config)
