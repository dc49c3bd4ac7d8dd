"""Pickles: arrays come out as they went in, and nothing in a file ever runs."""

from __future__ import annotations

import datetime
import pickle
import time
import tracemalloc
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from maskformer_ext.checkpoints.files.numpy_pickles import read_pickle
from maskformer_ext.checkpoints.files.state_dicts import read_state_dict
from maskformer_ext.errors import UserError

ARRAYS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "by_column": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "transposed": np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
    "big_endian": np.arange(3, dtype=">i2"),
    "half": np.ones((1, 0, 2), np.float16),
    "flags": np.array([True, False]),
    "single": np.array(3, np.int64),
    "scalar": np.float32(0.5),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_containers_are_read(tmp_path: Path, protocol: int) -> None:
    content = {
        "model": OrderedDict(ARRAYS),
        "__author__": "someone",
        "matching_heuristics": True,
        "other": [1, 2.5, None, ("a", b"bytes"), {3}, frozenset({4})],
    }
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_pickle(tmp_path / "zoo.pkl")
    assert {key: read[key] for key in content if key != "model"} == {
        key: content[key] for key in content if key != "model"
    }
    for name, expected in ARRAYS.items():
        assert read["model"][name].dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(read["model"][name], expected)
    state = read_state_dict(tmp_path / "zoo.pkl")
    assert list(state) == list(ARRAYS) and torch.equal(state["matrix"], torch.arange(6.0).view(2, 3))


def test_text_of_python_2_is_read(tmp_path: Path) -> None:
    # {"w": array([1.5], dtype=float32)}, whose bytes are a Python 2 string
    pickled = (
        b"\x80\x02}q\x00U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01\x85"
        b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U\x04\x00\x00\xc0\x3ftbs."
    )
    (tmp_path / "old.pkl").write_bytes(pickled)
    np.testing.assert_array_equal(read_pickle(tmp_path / "old.pkl")["w"], np.array([1.5], np.float32))


class _Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


REFUSED = {
    "builtins.print": _Call(print, "code in a checkpoint ran"),
    "builtins.eval": _Call(eval, "print('code in a checkpoint ran')"),
    "builtins.getattr": _Call(getattr, "abc", "upper"),
    "datetime.date": datetime.date(2020, 1, 1),
    "torch._utils._rebuild_tensor_v2": torch.zeros(1),
    r"an array of type 'O8?'": np.array([print], object),
    "an array of type 'V8'": np.zeros(2, [("a", "i4"), ("b", "f4")]),
    "an array of type 'U3'": np.array(["abc"]),
    "encoding 'rot13'": _Call(__import__("_codecs").encode, "abc", "rot13"),
    "a class or function": np.ndarray,
}


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("named", REFUSED)
def test_anything_else_is_refused_by_name(tmp_path: Path, named: str, protocol: int, capsys) -> None:
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"model": {"a": REFUSED[named]}}, protocol=protocol))
    with pytest.raises(UserError, match=rf"evil\.pkl holds .*{named}.* was not loaded"):
        read_state_dict(path)
    assert "ran" not in capsys.readouterr().out


def test_tensors_in_a_pickle_are_told_where_they_belong(tmp_path: Path) -> None:
    (tmp_path / "swin.pkl").write_bytes(pickle.dumps({"model": {"a": torch.zeros(1)}}))
    with pytest.raises(UserError, match=r"swin\.pkl holds torch\..* save torch's tensors with torch\.save, as \.pth"):
        read_state_dict(tmp_path / "swin.pkl")


def test_a_file_cannot_change_the_reader(tmp_path: Path) -> None:
    for name in (b"numpy\nndarray", b"_codecs\nencode", b"numpy\ndtype"):
        # an object's "slots", set by the opcode that restores its state
        (tmp_path / "evil.pkl").write_bytes(b"\x80\x02c" + name + b"\n(N}U\x05colorK\x01stb.")
        with pytest.raises(UserError, match="holds a change of a function"):
            read_pickle(tmp_path / "evil.pkl")


def test_damaged_and_wrong_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.pkl"
    path.write_bytes(pickle.dumps({"model": ARRAYS})[:-30])
    with pytest.raises(UserError, match=r"cut\.pkl cannot be read"):
        read_state_dict(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"cut\.pkl cannot be read"):
        read_state_dict(path)
    path.write_bytes(pickle.dumps({"model": {"a": "text"}}))
    with pytest.raises(UserError, match=r"must hold a state dict .* got str for 'a'"):
        read_state_dict(path)
    with pytest.raises(UserError, match="does not exist"):
        read_pickle(tmp_path / "none.pkl")


def test_weights_split_over_files_are_joined(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "part-1.bin")
    torch.save({"b": torch.zeros(2)}, tmp_path / "part-2.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text('{"weight_map": {"a": "part-1.bin", "b": "part-2.bin"}}')
    assert list(read_state_dict(index)) == ["a", "b"]
    index.write_text('{"weight_map": {"a": "part-1.bin", "b": 2}}')
    with pytest.raises(UserError, match=r"index\.json is not an index of split weights: 2 is no name"):
        read_state_dict(index)
    index.write_text('{"weight_map": {"a": "part-1.bin", "c": "part-2.bin"}}')
    with pytest.raises(UserError, match=r"names c, which part-2\.bin does not hold"):
        read_state_dict(index)


def _doubled(end: bytes) -> bytes:
    """A tuple of two tuples of two tuples, 60 deep, each stored once."""
    return b"\x80\x02)" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60)) + end


BOMBS = {
    "memo": b"\x80\x02Nr\xff\xff\xff\x10.",
    "bytes": b"\x80\x03B\xff\xff\xff\xff.",
    "many bytes": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b".",
    "bytearray": b"\x80\x05\x96" + (2**34).to_bytes(8, "little") + b".",
    "text": b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"a.",
    "frame": b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b"N.",
    "integer": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "digits": b"L" + b"9" * 100_000 + b"L\n.",
    "doubled": _doubled(b"."),
    "doubled key": _doubled(b"}h\x3bNs."),
    "doubled in a set": _doubled(b"\x8f(h\x3b\x90."),
    "nested": b"\x80\x02N" + b"\x85" * 100_000 + b".",
    "cyclic": b"\x80\x02]q\x00h\x00a.",
    "colliding": b"\x80\x02}("
    + b"".join(b"\x8a\x0a" + ((2**61 - 1) * i).to_bytes(10, "little") + b"N" for i in range(1, 5000))
    + b"u.",
    "sets": b"\x80\x02c__builtin__\nset\nq\x00](" + b"N" * 10_000 + b"eq\x01" + b"h\x00h\x01\x85R0" * 10_000 + b"N.",
    "extension": b"\x80\x02\x82\x01.",
    "buffer": b"\x80\x05\x97.",
    "reference": b"\x80\x02NQ.",
    "nothing": b"",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_few_bytes_take_neither_memory_nor_time(tmp_path: Path, name: str) -> None:
    (tmp_path / "bomb.pkl").write_bytes(BOMBS[name])
    tracemalloc.start()
    started = time.process_time()
    try:
        assert read_pickle(tmp_path / "bomb.pkl") is None
    except UserError as error:
        assert "bomb.pkl" in str(error) and str(error).isprintable()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6 and time.process_time() - started < 20


def test_an_array_may_not_be_changed_by_the_file(tmp_path: Path) -> None:
    content = pickle.dumps(np.arange(4.0), protocol=5)
    (tmp_path / "x.pkl").write_bytes(content[:-1] + b"N" + b"b.")  # what calls numpy.ndarray.__setstate__
    with pytest.raises(UserError, match=r"x\.pkl (holds a change of a ndarray|cannot be read)"):
        read_pickle(tmp_path / "x.pkl")
