"""Whole files or none, whatever the disk does; foreign files and names in one printable sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from maskformer_ext.errors import UserError, printable, why
from maskformer_ext.files import new_folder, read_json, reading, write_json, write_text, writing


def full_disk(*_, **__) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("failed"), MemoryError()]
)
def test_a_file_that_fails_half_way_leaves_what_was_there(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "kept.txt"
    write_text(path, "before")
    with pytest.raises(UserError, match=r"kept\.txt could not be written"), writing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "before" and [file.name for file in tmp_path.iterdir()] == ["kept.txt"]


def test_a_full_disk_is_named_behind_torch_saves_own_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No space left on device"), writing(tmp_path / "a.pt"):
        try:
            full_disk()
        finally:
            raise RuntimeError("[enforce fail at inline_container.cc:820] . PytorchStreamWriter failed writing file")


def test_writing_below_a_file_and_in_a_read_only_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for call in (write_text, write_json):
        with pytest.raises(UserError, match="could not be written"):
            call(tmp_path / "file" / "below.json", "x")
    with pytest.raises(UserError, match="could not be written"), writing("/proc/nothing/here") as temporary:
        torch.save({}, temporary)


def test_long_and_strange_names_are_written(tmp_path: Path) -> None:
    for name in ("a" * 250 + ".json", "ü" * 120 + ".json", os.fsdecode(b"caf\xe9.json")):
        write_json(tmp_path / name, [1])
        assert read_json(tmp_path / name, "a list") == [1]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_that_fails_half_way_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="could not be written"), new_folder(tmp_path / "new") as folder:
        (folder / "half").write_text("")
        full_disk()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": 1}\x00', "not valid JSON"),
    ],
)
def test_foreign_json_is_refused_in_one_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        read_json(tmp_path / "x.json", "a list of names")
    assert "\n" not in str(caught.value) and "a list of names" in str(caught.value)


@pytest.mark.parametrize("code", ["{}['a']", "[][0]", "int('x')", "None + 1", "None.a", "1 // 0", "int(float('inf'))"])
def test_walking_through_a_foreign_structure_never_ends_in_a_traceback(code: str) -> None:
    with pytest.raises(UserError, match=r"^f\.json is not a manifest: \S"), reading("f.json", "a manifest"):
        eval(code)


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert printable("a\x1b[31mb\x07\r\nc") == "a\\x1b[31mb\\x07 c"
    assert printable("gpj.\u202eexe") == "gpj.\\u202eexe"
    assert printable(os.fsdecode(b"caf\xe9")) == "caf\\xe9"
    assert printable("größe 猫 👩‍👩‍👧") == "größe 猫 👩‍👩‍👧"
    printable(os.fsdecode(bytes(range(128, 256)))).encode("utf-8")  # takes every byte


def test_reasons_are_short_and_on_one_line() -> None:
    assert why(KeyError("images")) == "'images' is missing"
    assert why(OSError(errno.ENOSPC, "No space left on device", "f")) == "No space left on device"
    assert why(ValueError()) == "ValueError"
    assert len(why(ValueError("x" * 10_000))) <= 200 and "\n" not in why(ValueError("a\nb"))
