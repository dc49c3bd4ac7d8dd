"""The loaders: the stream is a function of (seed, iteration), padding and normalisation, errors from workers."""

from __future__ import annotations

import gc
import json
import logging
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from typed import expect, load_module

from maskformer_ext.config import AugmentationConfig, Config, DataConfig, ModelConfig, TrainConfig
from maskformer_ext.data import Batch, build_dataset, build_loader
from maskformer_ext.data.collate import Collate
from maskformer_ext.data.readers.pairs import PairedImages
from maskformer_ext.data.streams import Item
from maskformer_ext.data.types import Sample
from maskformer_ext.errors import UserError
from maskformer_ext.ops import SegmentTargets


def _config(num_workers=0, *, max_iters=4, batch_size=4, accumulation_steps=1, seed=0, **data) -> Config:
    augmentation = AugmentationConfig(min_sizes=[80, 96], crop_size=[72, 72])
    data = {"name": "digits", "task": "panoptic", "num_train": 10, "num_val": 5, "image_size": 64, **data}
    return Config(
        seed=seed,
        data=DataConfig(num_workers=num_workers, augmentation=augmentation, **data),
        train=TrainConfig(max_iters=max_iters, batch_size=batch_size, accumulation_steps=accumulation_steps),
    )


def _assert_same(first: Batch, second: Batch) -> None:
    assert first.names == second.names and first.sizes == second.sizes
    assert torch.equal(first.images, second.images)
    assert torch.equal(*(expect(SegmentTargets, batch.targets).segment_map for batch in (first, second)))
    assert torch.equal(first.targets.labels, second.targets.labels)


@pytest.fixture
def folder(tmp_path):
    """Six images with labels, as a semantic folder."""
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / part / kind).mkdir(parents=True)
        for index in range(6):
            Image.fromarray(rng.integers(0, 256, (40, 50 + index, 3)).astype(np.uint8)).save(
                tmp_path / part / "images" / f"{index}.jpg"
            )
            label = rng.integers(0, 2, (40, 50 + index)).astype(np.uint8)
            Image.fromarray(label).save(tmp_path / part / "labels" / f"{index}.png")
    (tmp_path / "classes.txt").write_text("a\nb")
    return tmp_path


def _folder_config(folder, num_workers=0, **changes) -> Config:
    return _config(num_workers, name="semantic_folder", task="semantic", root=str(folder), **changes)


# --- the training stream


def test_a_resumed_stream_continues_identically():
    whole = list(build_loader(_config(), "train"))
    rest = list(build_loader(_config(), "train", start=2))
    assert len(whole) == 4 and len(rest) == 2
    for first, second in zip(whole[2:], rest, strict=True):
        _assert_same(first, second)


def test_workers_change_nothing_and_leave_the_global_stream_alone():
    before = torch.get_rng_state()
    for first, second in zip(build_loader(_config(0), "train"), build_loader(_config(2), "train"), strict=True):
        _assert_same(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_processes_and_accumulation_share_the_same_images():
    whole = list(build_loader(_config(batch_size=8, max_iters=2), "train"))
    config = _config(batch_size=8, max_iters=2, accumulation_steps=2)
    parts = [list(build_loader(config, "train", rank=rank, world=2)) for rank in range(2)]
    assert [len(part) for part in parts] == [4, 4]
    for iteration, batch in enumerate(whole):
        pieces = [parts[rank][2 * iteration + step] for step in range(2) for rank in range(2)]
        assert [name for piece in pieces for name in piece.names] == batch.names
        assert torch.equal(torch.cat([piece.images for piece in pieces]), batch.images)


def test_every_epoch_visits_every_image_in_a_new_order():
    names = [name for batch in build_loader(_config(batch_size=5, max_iters=4), "train") for name in batch.names]
    assert len(set(names[:10])) == len(set(names[10:])) == 10
    assert names[:10] != names[10:] and names[:10] != sorted(names[:10])
    other = next(iter(build_loader(_config(batch_size=10, seed=1), "train")))
    assert other.names != names[:10]


def test_an_image_is_augmented_anew_in_each_epoch():
    batches = list(build_loader(_config(batch_size=10, max_iters=2), "train"))
    images = [dict(zip(batch.names, batch.images, strict=True)) for batch in batches]
    assert sum(torch.equal(images[0][name], images[1][name]) for name in images[0]) < 3


@pytest.mark.parametrize(("batch_size", "accumulation_steps", "world"), [(4, 3, 1), (4, 1, 3), (0, 1, 1)])
def test_batch_sizes_that_do_not_divide_are_refused(batch_size, accumulation_steps, world):
    config = _config(batch_size=batch_size, accumulation_steps=accumulation_steps)
    with pytest.raises(UserError, match=r"train\.batch_size must be a multiple"):
        build_loader(config, "train", world=world)


def test_semantic_batches_hold_present_classes_only(data_dir):
    config = _config(name="camvid", root=str(data_dir / "camvid"), task="semantic")
    for batch in build_loader(config, "train"):
        for image in range(len(batch)):
            owners = expect(SegmentTargets, batch.targets).segment_map[image].unique()
            count = int(batch.targets.num_segments[image])
            assert owners[owners >= 0].tolist() == list(range(count))
            assert batch.targets.labels[image, :count].tolist() == sorted(
                set(batch.targets.labels[image, :count].tolist())
            )


@pytest.mark.parametrize("drop_empty", [False, True])
def test_instances_that_a_crop_removed(data_dir, drop_empty):
    config = _config(name="nuclei", root=str(data_dir / "nuclei"), max_iters=3, drop_empty=drop_empty)
    config.data.augmentation.min_sizes = []
    dataset = build_dataset(config.data, "train")
    complete = {name: index for index, (name, _, _) in enumerate(expect(PairedImages, dataset).pairs)}
    for batch in build_loader(config, "train", dataset=dataset):
        targets = expect(SegmentTargets, batch.targets)
        for name, count, owners in zip(batch.names, targets.num_segments, targets.segment_map, strict=True):
            if drop_empty:
                assert len(owners[owners >= 0].unique()) == count
            else:
                assert len(dataset[complete[name]].labels) == count
        rows = int(batch.targets.num_segments.sum())
        assert batch.targets._pairs is not None and (batch.targets.pairs()[0] >= 0).sum() == rows


# --- batches


def test_normalisation_and_padding_agree_with_the_original(golden_dir):
    golden = load_module(golden_dir / "golden_weights.py")
    facts = json.loads((golden_dir / "models/ade20k_r50.json").read_text())
    values = np.load(golden_dir / "models/ade20k_r50.npz")["batch2/backbone_input"]
    items = []
    for name, height, width in facts["runs"]["batch2"]["images"]:
        image = torch.from_numpy(golden.golden_image(name, height, width, facts["input_seed"]))
        empty = torch.full((height, width), -1, dtype=torch.int32)
        items.append(Item(Sample(image, empty, torch.zeros(0, dtype=torch.int64), name, (height, width)), []))
    model = ModelConfig()
    collate = Collate(pixel_mean=model.pixel_mean, pixel_std=model.pixel_std, size_divisibility=32)
    batch = expect(Batch, collate(items))
    assert list(batch.images.shape) == facts["runs"]["batch2"]["tensors"]["backbone_input"]["shape"]
    positions = golden.golden_indices("batch2/backbone_input", batch.images.numel(), facts["input_seed"])
    assert np.abs(batch.images.flatten().numpy()[positions] - values).max() < 1e-5


def test_crops_are_padded_with_grey_then_with_zero():
    image = torch.full((3, 10, 20), 200, dtype=torch.uint8)
    sample = Sample(image, torch.zeros(10, 20, dtype=torch.int32), torch.tensor([4]), "x", (10, 20))
    collate = Collate(pixel_mean=[100, 0, 0], pixel_std=[2, 1, 1], size_divisibility=16, crop_size=[12, 24])
    batch = expect(Batch, collate([Item(sample, [])]))
    assert batch.images.shape == (1, 3, 16, 32) and batch.sizes == [(10, 20)]
    assert (batch.images[0, 0, :10, :20] == 50).all()
    assert (batch.images[0, 0, :12, 20:24] == 14).all() and (batch.images[0, 0, 10:12, :24] == 14).all()
    assert (batch.images[0, :, 12:] == 0).all() and (batch.images[0, :, :, 24:] == 0).all()
    assert batch.pixels.dtype == torch.uint8 and (batch.pixels[0, :, :12, 20:24] == 128).all()
    laid_out = batch.normalized(torch.channels_last)
    assert laid_out.is_contiguous(memory_format=torch.channels_last) and torch.equal(laid_out, batch.images)
    segment_map = expect(SegmentTargets, batch.targets).segment_map[0]
    assert (segment_map[:10, :20] == 0).all() and (segment_map == 0).sum() == 200


def test_evaluation_visits_every_image_once():
    config = _config(2)
    loader = build_loader(config, "val")
    for _ in range(2):  # the workers stay for the second pass
        batches = list(loader)
        assert [name for batch in batches for name in batch.names] == [f"val_{index:06d}" for index in range(5)]
    assert len(loader) == 5 and batches[0].images.shape == (1, 3, 64, 64)
    loader.close()
    shares = [[b.names[0] for b in build_loader(_config(), "val", rank=rank, world=2)] for rank in range(2)]
    assert [len(share) for share in shares] == [3, 2] and not set(shares[0]) & set(shares[1])


def test_evaluation_resizes_the_shortest_side(folder):
    config = _folder_config(folder)
    config.inference.min_size, config.model.size_divisibility = 80, 32
    batch = next(iter(build_loader(config, "val")))
    assert batch.sizes == [(80, 100)] and batch.original_sizes == [(40, 50)]
    assert batch.images.shape == (1, 3, 96, 128) and batch.targets.size == (96, 128)


# --- what goes wrong in a worker


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_damaged_file_arrives_as_one_sentence(folder, num_workers, split):
    path = folder / split / "images/3.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError) as error:
        list(build_loader(_folder_config(folder, num_workers), split))
    assert not multiprocessing.active_children()  # although the traceback is still there
    assert str(path) in str(error.value) and "truncated" in str(error.value)
    assert "\n" not in str(error.value) and "worker" not in str(error.value)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_skipped_files_are_replaced_counted_and_reported(folder, num_workers, caplog):
    broken = folder / "train/images/3.jpg"
    broken.write_bytes(broken.read_bytes()[:-200])
    (folder / "train/labels/5.png").unlink()
    loader = build_loader(_folder_config(folder, num_workers, on_error="skip"), "train")
    with caplog.at_level(logging.WARNING):
        batches = list(loader)
    assert [len(batch) for batch in batches] == [4] * 4
    assert {name for batch in batches for name in batch.names} == {"0", "1", "2", "4"}
    assert len(loader.skipped) == 2 and any(str(broken) in sentence for sentence in loader.skipped)
    assert sum("3.jpg" in record.getMessage() for record in caplog.records) == 1


def test_skipped_files_are_left_out_of_evaluation(folder):
    (folder / "val/images/2.jpg").write_bytes(b"")
    loader = build_loader(_folder_config(folder, on_error="skip"), "val")
    assert [batch.names[0] for batch in loader] == ["0", "1", "3", "4", "5"] and len(loader.skipped) == 1


def test_nothing_readable_is_an_error_even_when_skipping(folder):
    for path in (folder / "train/images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no readable image"):
        list(build_loader(_folder_config(folder, on_error="skip"), "train"))


def test_no_worker_outlives_its_loader():
    before = set(multiprocessing.active_children())
    loader = build_loader(_config(2), "train")
    for _ in loader:
        break
    evaluation = build_loader(_config(2), "val")
    list(evaluation)
    assert set(multiprocessing.active_children()) - before
    loader.close()
    evaluation.close()
    gc.collect()
    assert not set(multiprocessing.active_children()) - before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_of_a_job_ends_no_worker(number):
    batches = iter(build_loader(_config(2, max_iters=20), "train"))
    names = [next(batches).names]
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:
        os.kill(expect(int, worker.pid), number)
    names += [batch.names for batch in batches]
    assert names == [batch.names for batch in build_loader(_config(0, max_iters=20), "train")]


def test_batches_move_with_their_targets():
    batch = next(iter(build_loader(_config(), "train"))).to("meta")
    assert batch.images.device.type == expect(SegmentTargets, batch.targets).segment_map.device.type == "meta"
    assert batch.targets.pairs()[0].device.type == "meta" and len(batch) == 4
