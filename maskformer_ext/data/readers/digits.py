"""The embedded data set: real handwritten digits on regions of real textures and photographs, nothing to download.

Things are the ten digits, drawn from the 1,797 scans that scikit-learn ships (UCI "Optical Recognition of Handwritten
Digits"). Stuff is what lies behind them: brick, grass, gravel and stained tissue of scikit-image, and the photographs
of scikit-learn. Training and validation share neither a scan nor a piece of a picture.

An image is a pure function of (seed, split, index). Random numbers are raw PCG64 words, whose stream NumPy guarantees.
All geometry and blending is integer arithmetic. So no library version or processor changes a pixel. One exception:
the two photographs are JPEG files, whose decoders may differ by one grey level.

The same images also come with 126 fine classes. A digit's class then combines three things: the digit, the texture
under its centre, and whether it is large.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations

import numpy as np
import torch
from torch.utils.data import Dataset

from maskformer_ext.data.classes import palette
from maskformer_ext.data.targets import merge_classes, select_classes
from maskformer_ext.data.types import DatasetInfo, Sample
from maskformer_ext.errors import UserError

DIGIT_CLASSES = tuple(str(digit) for digit in range(10))
STUFF_CLASSES = ("brick", "grass", "gravel", "tissue", "flower", "pagoda")
CLASSES = DIGIT_CLASSES + STUFF_CLASSES
SIZES = ("small", "large")
FINE_DIGIT_CLASSES = tuple(
    f"{size} {digit} on {stuff}" for digit in DIGIT_CLASSES for stuff in STUFF_CLASSES for size in SIZES
)

_SPLITS = {"train": 0, "val": 1}
_TRAIN_SHARE = 0.6  # The left part of every picture is for training, the rest for validation.
_MIN_VISIBLE = 0.7  # Share of a digit that later digits leave uncovered.
_HEIGHTS = (0.36, 0.6)  # Of a digit, relative to the image.
_PLACEMENTS = 6  # Positions tried for a digit before it is left out


class DigitsDataset(Dataset):
    """Generate images of handwritten digits on textures.

    Args:
        split: "train" or "val"; the two share no scan and no piece of a texture.
        task: "semantic" (one segment per class), "instance" (digits only) or "panoptic" (digits and textures).
        length: number of images.
        image_size: side of the square images in pixels, at least 64.
        seed: another seed gives another data set.
        fine_classes: tell digits apart by texture and size too.

    Raises:
        UserError: if an argument is out of range, or scikit-learn or scikit-image is missing.
    """

    def __init__(
        self,
        split: str,
        *,
        task: str = "panoptic",
        length: int = 2000,
        image_size: int = 128,
        seed: int = 0,
        fine_classes: bool = False,
    ) -> None:
        if length < 1:
            raise UserError(f"data.num_train and data.num_val must be at least 1, got {length}.")
        if image_size < 64:
            raise UserError(
                f"data.image_size must be at least 64 pixels, so that digits can be read, got {image_size}."
            )
        self.split, self.task, self.length, self.image_size, self.seed = split, task, length, image_size, seed
        self.fine_classes = fine_classes
        _load_pictures(split)
        self.digits = FINE_DIGIT_CLASSES if fine_classes else DIGIT_CLASSES
        classes = self.digits if task == "instance" else self.digits + STUFF_CLASSES
        things = () if task == "semantic" else tuple(range(len(self.digits)))
        self.info = DatasetInfo("digits", classes, palette(len(classes)), things)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.length:
            raise IndexError(f"digits: index must be below {self.length}, got {index}")
        image, segment_map, labels = generate(
            self.split, index, image_size=self.image_size, seed=self.seed, fine_classes=self.fine_classes
        )
        segments = torch.from_numpy(segment_map), torch.from_numpy(labels)
        if self.task == "semantic":
            segments = merge_classes(*segments)
        elif self.task == "instance":
            segments = select_classes(*segments, range(len(self.digits)))
        return Sample(
            image=torch.from_numpy(image).permute(2, 0, 1).contiguous(),
            segment_map=segments[0],
            labels=segments[1],
            name=f"{self.split}_{index:06d}",
            size=(self.image_size, self.image_size),
        )


def generate(
    split: str, index: int, *, image_size: int = 128, seed: int = 0, fine_classes: bool = False
) -> tuple[np.ndarray, ...]:
    """Draw one image with its panoptic segments.

    Args:
        split: "train" or "val".
        index: which image.
        image_size: side S in pixels.
        seed: which data set.
        fine_classes: whether labels tell digits apart by texture and size too; the image is the same.

    Returns:
        image (S, S, 3) uint8 RGB; segment_map (S, S) int32, index into labels, no void; labels (T,) int64. Textures
        come first, then digits in the order in which they were pasted.
    """
    draws = _Draws(seed, _SPLITS[split], index)
    region_map, classes = _draw_regions(draws, image_size)
    image = np.empty((image_size, image_size, 3), np.uint8)
    for region, stuff in enumerate(classes):
        inside = region_map == region
        curve, crop = _draw_texture(draws, split, stuff, image_size)
        image[inside] = curve[crop[inside]]
    segment_map = region_map.copy()
    first_stuff = len(FINE_DIGIT_CLASSES if fine_classes else DIGIT_CLASSES)
    labels = [first_stuff + stuff for stuff in classes]
    areas: dict[int, int] = {}  # of each digit before later ones cover it
    hues = list(permutations(range(3)))
    for _ in range(draws.integer(2, 5)):
        digit = draws.integer(0, 10)
        scans = _scans(split)[digit]
        low, high = (int(share * image_size) for share in _HEIGHTS)
        scan, height = scans[draws.integer(0, len(scans))].tobytes(), draws.integer(low, high + 1)
        values, alpha = _glyph(scan, height)
        color = _draw_color(draws, hues.pop(draws.integer(0, len(hues))))
        for _ in range(_PLACEMENTS):
            top = draws.integer(0, image_size - alpha.shape[0] + 1)
            left = draws.integer(0, image_size - alpha.shape[1] + 1)
            box = np.s_[top : top + alpha.shape[0], left : left + alpha.shape[1]]
            if _leaves_visible(segment_map, box, alpha >= 128, areas):
                areas[len(labels)] = _paste(image[box], segment_map[box], values, alpha, color, len(labels))
                behind = classes[region_map[top + alpha.shape[0] // 2, left + alpha.shape[1] // 2]]
                large = height > (low + high) // 2
                labels.append(_fine_class(digit, behind, large) if fine_classes else digit)
                break
    return (image, *_without_empty(segment_map, np.array(labels, np.int64)))


def _fine_class(digit: int, stuff: int, large: bool) -> int:
    return (digit * len(STUFF_CLASSES) + stuff) * len(SIZES) + int(large)


class _Draws:
    """Integers from raw PCG64 words, so that the stream is the same in every NumPy version."""

    def __init__(self, *entropy: int) -> None:
        self._words = np.random.PCG64(np.random.SeedSequence(entropy)).random_raw(256).tolist()

    def integer(self, low: int, high: int) -> int:
        """Return low <= value < high (the bias of the multiplication is below 2^-40)."""
        return low + (((self._words.pop() >> 16) * (high - low)) >> 48)


def _load_pictures(split: str) -> None:
    """Fill the caches before worker processes start, which then share them."""
    try:
        _scans(split)
        for stuff in range(len(STUFF_CLASSES)):
            _texture(split, stuff)
    except ImportError as error:
        raise UserError(
            f"the digits data set needs {error.name}: pip install scikit-learn scikit-image, or maskformer-ext[train]."
        ) from error


@lru_cache(maxsize=1)
def _all_scans() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images.astype(np.uint8), digits.target


@lru_cache(maxsize=2)
def _scans(split: str) -> list[np.ndarray]:
    """Return for each digit its scans, (N, 8, 8) uint8 in 0..16; every fifth of the collection is for validation."""
    images, target = _all_scans()
    mine = (np.arange(len(images)) % 5 == 4) == (split == "val")
    return [images[mine & (target == digit)] for digit in range(10)]


@lru_cache(maxsize=12)
def _texture(split: str, stuff: int) -> np.ndarray:
    """Return the part of a picture that a split may use, (H, W, 3) uint8."""
    import skimage.data
    from sklearn.datasets import load_sample_image

    name = STUFF_CLASSES[stuff]
    if name == "flower":
        picture = load_sample_image("flower.jpg")
    elif name == "pagoda":
        picture = load_sample_image("china.jpg")
    elif name == "tissue":
        picture = skimage.data.immunohistochemistry().swapaxes(0, 1)  # so that both parts hold glands and stroma
    else:
        picture = np.repeat(getattr(skimage.data, name)()[..., None], 3, axis=2)
    seam = int(picture.shape[1] * _TRAIN_SHARE)
    return np.ascontiguousarray(picture[:, :seam] if split == "train" else picture[:, seam:])


@lru_cache(maxsize=1)
def _sine_table() -> np.ndarray:
    return np.rint(1024 * np.sin(np.arange(1024) * (2 * np.pi / 1024))).astype(np.int32)


def _draw_regions(draws: _Draws, size: int) -> tuple[np.ndarray, list[int]]:
    """Divide the image among two to four textures: cells around random sites, with wavy borders."""
    pool = list(range(len(STUFF_CLASSES)))
    classes = [pool.pop(draws.integer(0, len(pool))) for _ in range(draws.integer(2, 5))]
    ticks = np.arange(size, dtype=np.int32)
    waves = []
    for _ in range(2):
        cycles, phase, height = draws.integer(1, 4), draws.integer(0, 1024), draws.integer(size // 32, size // 12)
        waves.append(height * _sine_table()[(ticks * cycles * 1024 // size + phase) % 1024] // 1024)
    y = ticks[:, None] + waves[0][None, :]
    x = ticks[None, :] + waves[1][:, None]
    owner = np.zeros((size, size), np.int32)
    nearest = np.full((size, size), np.iinfo(np.int32).max, np.int32)
    for region in range(len(classes)):
        distance = (y - draws.integer(0, size)) ** 2 + (x - draws.integer(0, size)) ** 2
        closer = distance < nearest
        owner[closer] = region
        nearest = np.minimum(nearest, distance)
    return owner, classes


def _draw_texture(draws: _Draws, split: str, stuff: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a random square out of a texture and draw a change of brightness and contrast.

    Returns:
        A table from old to new grey levels, (256,) uint8, and the square, (size, size, 3) uint8.
    """
    texture = _texture(split, stuff)
    top, left = (draws.integer(0, max(extent - size, 0) + 1) for extent in texture.shape[:2])
    if min(texture.shape[:2]) >= size:
        crop = texture[top : top + size, left : left + size]
    else:
        crop = texture[_mirrored(top, size, texture.shape[0])][:, _mirrored(left, size, texture.shape[1])]
    if draws.integer(0, 2):
        crop = crop[:, ::-1]
    gain, offset = draws.integer(205, 307), draws.integer(-20, 21)
    curve = np.clip((np.arange(256) - 128) * gain // 256 + 128 + offset, 0, 255).astype(np.uint8)
    return curve, crop


def _mirrored(start: int, size: int, extent: int) -> np.ndarray:
    position = np.arange(start, start + size) % (2 * extent)
    return np.where(position < extent, position, 2 * extent - 1 - position)


def _draw_color(draws: _Draws, hue: tuple[int, ...]) -> np.ndarray:
    """Draw a saturated colour, so that a digit stands out; ``hue`` says which channel is high, medium and low."""
    levels = np.array([draws.integer(200, 256), draws.integer(0, 256), draws.integer(0, 60)], np.int32)
    return levels[list(hue)]


@lru_cache(maxsize=128)
def _upscale_matrix(height: int) -> np.ndarray:
    """Return Catmull-Rom weights from 8 samples to ``height``, (height, 8), as integers that add up to 256 in a row."""
    position = (np.arange(height) * 2 + 1) * 4 / height - 0.5
    base = np.floor(position).astype(np.int64)
    t = position - base
    taps = np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], axis=1)
    weights = np.rint(128 * taps).astype(np.int64)
    weights[:, 1] += 256 - weights.sum(1)
    matrix = np.zeros((height, 8))
    for tap in range(4):
        np.add.at(matrix, (np.arange(height), np.clip(base + tap - 1, 0, 7)), weights[:, tap])
    return matrix


@lru_cache(maxsize=4096)
def _glyph(scan: bytes, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Upscale a scan smoothly and cut it to its strokes.

    Returns:
        values (h, w) int32, ink in 0..255, and alpha (h, w) int32, opacity in 0..255 with soft borders.
    """
    matrix = _upscale_matrix(height)
    # Whole numbers below 2^53: the product is exact whatever the order of summation.
    ink = matrix @ np.frombuffer(scan, np.uint8).reshape(8, 8).astype(np.float64) @ matrix.T
    values = np.clip(ink.astype(np.int64) * 255 >> 20, 0, 255).astype(np.int32)
    alpha = np.clip((values - 70) * 255 // 50, 0, 255)
    rows, columns = np.flatnonzero(alpha.max(1) >= 128), np.flatnonzero(alpha.max(0) >= 128)
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return values[box], alpha[box]


def _leaves_visible(segment_map: np.ndarray, box: tuple, mask: np.ndarray, areas: dict[int, int]) -> bool:
    """Return whether a paste leaves enough of every earlier digit to be recognised."""
    hidden = segment_map[box][mask]
    return all(
        (segment_map == digit).sum() - (hidden == digit).sum() >= _MIN_VISIBLE * area
        for digit, area in areas.items()
        if (hidden == digit).any()
    )


def _paste(
    image: np.ndarray, segment_map: np.ndarray, values: np.ndarray, alpha: np.ndarray, color: np.ndarray, segment: int
) -> int:
    """Blend a glyph into views of image and segment map; return its area in pixels."""
    shade = (128 + values // 2)[..., None]  # strokes are darker where the pen was lighter
    opacity = alpha[..., None]
    image[:] = (image * (255 - opacity) + color * shade // 255 * opacity) // 255
    mask = alpha >= 128
    segment_map[mask] = segment
    return int(mask.sum())


def _without_empty(segment_map: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    present = np.bincount(segment_map.ravel(), minlength=len(labels)) > 0
    return (np.cumsum(present) - 1).astype(np.int32)[segment_map], labels[present]
