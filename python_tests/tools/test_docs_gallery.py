"""Pictures of the gallery: only of images that anybody may pass on, small, and named with what the model says."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from maskformer_ext import build_model
from maskformer_ext.config.load import load_config
from maskformer_ext.data.build import build_dataset

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the tests of an installed package")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_gallery", ROOT / "tools" / "docs_gallery.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    config = load_config("digits")
    info = build_dataset(config.data, "val").info
    build_model("digits", num_classes=info.num_classes).save_pretrained(folder, config=config, info=info)
    for name in ("iter_0000020", "iter_0000040"):
        (folder / "checkpoints" / name).mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"PQ": 0.25, "AP50": 0.5, "mIoU": 0.75}))
    return folder


def _call(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["docs_gallery.py", *map(str, arguments)])
    return tool.main()


def test_a_page_of_this_machine_names_scores_iterations_and_licence(
    tool: ModuleType, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _call(tool, monkeypatch, run, "--local", tmp_path, "--images", "0,3") == 0
    page = (tmp_path / "digits.md").read_text()
    words = " ".join(page.split())
    assert "`digits` after 40 iterations" in words and "images: PQ 0.250. " in words and "CC BY 4.0" in words
    pictures = re.findall(r"\]\((\S+\.jpg)\)", page)
    assert pictures == [f"digits-{number}-{kind}.jpg" for number in (0, 3) for kind in ("image", "prediction")]
    assert all((tmp_path / name).is_file() for name in pictures)
    assert len(re.findall(r"Found \d+, in truth \d+\.", page)) == 2


def test_images_that_may_not_be_passed_on_stay_out_of_the_repository(
    tool: ModuleType, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tool, "LICENCES", {"nuclei": "CC0"})
    monkeypatch.setattr(tool, "PAGE", tmp_path / "gallery" / "README.md")
    assert _call(tool, monkeypatch, run) == 2
    assert (
        "images of digits may not be in the repository, only those of nuclei: give --local" in capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_missing_is_one_sentence(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _call(tool, monkeypatch, tmp_path / "lost") == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_section_is_replaced_where_it_stands(tool: ModuleType) -> None:
    page = tool.put_section(tool.put_section("# Gallery\n", "a", "one"), "b", "two")
    assert tool.put_section(page, "a", r"\1 three") == page.replace("one", r"\1 three")


def test_large_pictures_become_small_files(tool: ModuleType, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (480, 480, 3), dtype=np.uint8)
    assert tool._save(Image.fromarray(noise), tmp_path / "noise").stat().st_size < 200_000


def test_pictures_in_the_repository_are_small_and_of_known_licence(tool: ModuleType) -> None:
    pictures = [path for ending in ("jpg", "png", "webp") for path in (ROOT / "docs").rglob(f"*.{ending}")]
    assert [path.name for path in pictures if path.stat().st_size >= 200_000] == []
    shown = [path.name.partition("-")[0] for path in (ROOT / "docs" / "gallery").glob("*.jpg")]
    assert set(shown) <= set(tool.LICENCES)
    page = (ROOT / "docs" / "gallery" / "README.md").read_text(encoding="utf-8")
    assert [name for name in set(shown) if f"docs_gallery {name}: begin" not in page] == []
