"""Files of torch.save: what honest programs write is read; what asks for more than the file holds is not."""

from __future__ import annotations

import argparse
import datetime
import io
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskformer_ext.checkpoints.files.state_dicts import read_state_dict
from maskformer_ext.checkpoints.files.torch_files import read_torch
from maskformer_ext.errors import UserError

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
REAL = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8, torch.bool]


def _save(content, path: Path, zipped: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@FORMATS
@pytest.mark.parametrize("dtype", REAL)
def test_numbers_of_every_kind_arrive(tmp_path: Path, dtype: torch.dtype, zipped: bool) -> None:
    weights = {"a": (torch.arange(6).view(2, 3) % 2).to(dtype), "t": torch.ones(4, 2, dtype=dtype).t()}
    read = read_state_dict(_save(weights, tmp_path / "x.pth", zipped))
    assert all(torch.equal(read[name], value) and read[name].dtype == dtype for name, value in weights.items())


@FORMATS
def test_what_training_programs_save_arrives(tmp_path: Path, zipped: bool) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    tagged = torch.ones(2)
    tagged.note = "kept by the pickle"  # type: ignore[attr-defined]
    content = {
        "model": model.state_dict(),
        "parameter": nn.Parameter(torch.ones(2)),
        "tagged": tagged,
        "view": torch.arange(10.0)[3:5],
        "repeated": torch.zeros(1, 3).expand(2, 3),
        "plain": {"lr": 1e-3, "steps": [1, (2, 3)], "seen": {1, 2}, "size": torch.Size([1]), "type": torch.float16},
    }
    read = read_torch(_save(content, tmp_path / "x.pt", zipped))
    assert read["plain"] == content["plain"] and torch.equal(read["view"], torch.tensor([3.0, 4.0]))
    assert all(torch.equal(read["model"][name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        (argparse.Namespace(lr=1.0), "argparse.Namespace"),
        (np.float64(0.5), "numpy.core.multiarray.scalar"),
        (Path("runs"), "pathlib"),
        (datetime.date(2020, 1, 1), "datetime.date"),
    ],
    ids=["options", "score", "folder", "day"],
)
def test_objects_beside_the_weights_are_named_with_the_way_out(tmp_path: Path, beside, named: str) -> None:
    path = _save({"model": {"a": torch.ones(1)}, "beside": beside}, tmp_path / "run.pth", True)
    with pytest.raises(UserError, match=rf"run\.pth holds {named}.*: its author can save the weights alone, by torch"):
        read_state_dict(path)


def test_files_without_checksums_are_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        _save({"a": torch.ones(3)}, tmp_path / "x.pth", True)
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_state_dict(tmp_path / "x.pth")["a"], torch.ones(3))


def test_eight_bit_floats_arrive(tmp_path: Path) -> None:
    value = torch.tensor([0.5, 2.0]).to(torch.float8_e4m3fn)
    read = read_state_dict(_save({"a": value}, tmp_path / "x.pth", True))["a"]
    assert torch.equal(read.float(), value.float())


@FORMATS
@pytest.mark.parametrize(
    ("value", "named"),
    [
        (torch.eye(3).to_sparse(), "_rebuild_sparse_tensor"),
        (torch.zeros(10**12, device="meta"), "_rebuild_meta_tensor_no_storage"),
        (torch.zeros(1).expand(10**6, 10**6), "more than 8 times the bytes"),
        (torch.zeros(2, dtype=torch.complex64), "ComplexFloatStorage"),
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (argparse.Namespace(a=1), "argparse.Namespace"),
        (bytearray(3), "builtins.bytearray"),
    ],
)
def test_anything_but_dense_real_tensors_is_refused_by_name(tmp_path: Path, value, named: str, zipped: bool) -> None:
    with pytest.raises(UserError, match=rf"x\.pth holds .*{named}.* was not loaded"):
        read_state_dict(_save({"a": value}, tmp_path / "x.pth", zipped))


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _integer(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def _tensor(count: int, shape: list[int], strides: list[int], offset: int = 0) -> bytes:
    """A pickle of one tensor, whose numbers need not be there."""
    storage = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text("0") + _text("cpu") + _integer(count) + b"tQ"
    places = b"".join(b"(" + b"".join(map(_integer, numbers)) + b"t" for numbers in (shape, strides))
    rest = b"\x89ccollections\nOrderedDict\n)RtRs."
    return (
        b"\x80\x02}" + _text("a") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + _integer(offset) + places + rest
    )


def _archive(content: bytes, numbers: bytes = bytes(16), compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        entries = {"data.pkl": content, "version": b"3\n", "byteorder": b"little", "data/0": numbers}
        for name, entry in entries.items():
            archive.writestr(f"archive/{name}", entry)
    return file.getvalue()


def test_a_crafted_file_that_asks_for_what_it_holds_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(_archive(_tensor(4, [2, 2], [2, 1])))
    assert torch.equal(read_state_dict(tmp_path / "x.pth")["a"], torch.zeros(2, 2))


@pytest.mark.parametrize(
    "content",
    [
        _archive(_tensor(4, [10**10], [1])),
        _archive(_tensor(10**10, [10**10], [1])),
        _archive(_tensor(10**10, [4], [1])),
        _archive(_tensor(4, [2], [-1])),
        _archive(_tensor(4, [-2], [1])),
        _archive(_tensor(4, [1], [1], offset=10)),
        _archive(_tensor(4, [2**40, 2**40], [0, 0])),
        _archive(_tensor(4, [2], [1, 1])),
        _archive(_tensor(4, [4], [1]), bytes(10**7), zipfile.ZIP_DEFLATED),
        _archive(b"\x80\x02ctorch\nTensor\nJ\xff\xff\xff\x7f\x85R."),
        _archive(b"\x80\x02ctorch\nUntypedStorage\nJ\xff\xff\xff\x7f\x85R."),
        _archive(b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R."),
        _archive(b"\x80\x02)" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60)) + b"}h\x3bNs."),
        b"",
        b"PK\x03\x04",
        b"\0" * 257 + b"ustar" + b"\0" * 300,
        b"\x80\x02Nr\xff\xff\xff\x10.",
    ],
)
def test_a_crafted_file_that_asks_for_more_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.pth (holds|cannot be read|is a tar|must hold)"):
        read_state_dict(tmp_path / "x.pth")


def test_damaged_bytes_are_one_sentence(tmp_path: Path) -> None:
    rng, path = random.Random(0), tmp_path / "x.pth"
    weights = nn.Linear(3, 3).state_dict()
    files = [_save(weights, path, zipped).read_bytes() for zipped in (True, False)] + [_archive(_tensor(4, [4], [1]))]
    for _ in range(300):
        content = bytearray(rng.choice(files))
        for _ in range(rng.choice((1, 2, 8))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content[: rng.randrange(len(content))] if rng.random() < 0.3 else content)
        try:
            assert all(isinstance(value, Tensor) for value in read_state_dict(path).values())
        except UserError as error:
            assert str(path) in str(error) and str(error).isprintable()
