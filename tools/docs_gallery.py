"""Make pictures of a trained model for the site's gallery: ``python tools/docs_gallery.py RUN [...]``.

Usage: python tools/docs_gallery.py RUN [--count 4] [--images 3,11,42] [--local [FOLDER]]

It segments validation images and writes each of them, and what the model says of it, to ``docs/gallery/``. The page
there gets a section for the data set, with scores, iterations and licence, between two comments.

Only images that anybody may pass on belong into the repository. Those of other data sets are for ``--local``, which
writes a page below build/gallery. The next ``make docs`` on this machine shows it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image

from maskformer_ext.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "gallery" / "README.md"
_SIDE = 640  # of a picture, at most
_MOST_BYTES = 200_000
# Data sets whose images anybody may pass on, and the words that say so.
LICENCES = {
    "nuclei": "Images: BBBC038v1, 2018 Data Science Bowl (CC0).",
    "digits": "Scans of digits: UCI repository (CC BY 4.0). Textures: scikit-image (public domain). Photographs: "
    "scikit-learn (CC BY 2.0, danielbuechele and vultilion).",
}


class Gallery:
    """Segments validation images of a run and writes the pictures of them."""

    def __init__(self, run: Path, folder: Path) -> None:
        """Load the run.

        Args:
            run: the output folder of a run.
            folder: for the pictures.
        """
        from maskformer_ext.checkpoints.models import load_checkpoint
        from maskformer_ext.data.build import build_dataset

        self.model, self.config, self.info = load_checkpoint(run, "cpu")
        self.dataset = build_dataset(self.config.data, "val")
        self.folder = folder
        self.name = self.config.data.name
        self.iterations = max((int(path.name[5:]) for path in (run / "checkpoints").glob("iter_*")), default=0)
        self.scores = self._scores(run / "metrics.json")

    def _scores(self, file: Path) -> str:
        """Return a sentence with the scores; of a run that was stopped before they were computed, none."""
        if not file.exists():
            return ""
        metrics = json.loads(file.read_text(encoding="utf-8"))
        wanted = {"panoptic": ("PQ",), "instance": ("AP", "AP50")}.get(self.config.data.task, ("mIoU",))
        scores = ", ".join(f"{key} {metrics[key]:.3f}" for key in wanted if key in metrics)
        return f"Scores on {len(self.dataset)} validation images: {scores}. "

    def picture(self, index: int) -> str:
        """Write the pictures of one image, and return the Markdown that shows them side by side."""
        from maskformer_ext.inference import segment
        from maskformer_ext.inference.results import segments_of
        from maskformer_ext.pictures.segments import draw_segments

        sample = self.dataset[index]
        task = self.config.data.task
        result = segment(
            self.model, sample.image, task=task, thing_classes=self.info.thing_classes, config=self.config.inference
        )
        image = sample.image.permute(1, 2, 0).numpy()
        owners, labels = segments_of(result)
        things = set(self.info.thing_classes)
        if task == "panoptic":  # what lies between things stays as it is
            stuff = [number for number, label in enumerate(labels) if label not in things]
            owners = np.where(np.isin(owners, stuff), -1, owners) if self.name == "nuclei" else owners
        names = self.name != "nuclei"
        drawn = draw_segments(image, owners, labels, self.info, names=names, short_side=_SIDE * 2 // 3, long_side=_SIDE)
        base = f"{self.name}-{index}"
        before = _save(
            Image.fromarray(image).resize(drawn.size, Image.Resampling.BICUBIC), self.folder / f"{base}-image"
        )
        after = _save(drawn, self.folder / f"{base}-prediction")
        return (
            '<div class="compare" markdown>\n\n'
            f"![Validation image {index} of {self.name}]({before.name})\n![What the model says of it]({after.name})\n\n"
            f"{self._caption(sample, [labels[index] for index in np.unique(owners[owners >= 0])], things)}\n\n</div>"
        )

    def _caption(self, sample: object, labels: list[int], things: set[int]) -> str:
        truth = sample.labels.tolist()  # type: ignore[attr-defined]
        if not things or self.config.data.task == "semantic":
            names = sorted({self.info.classes[label] for label in labels})
            return f"Found: {', '.join(names)}."
        found, true = (sum(label in things for label in some) for some in (labels, truth))
        return f"Found {found}, in truth {true}."

    def section(self, indices: list[int]) -> str:
        """Write all pictures and return the section of the page."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shown = "\n\n".join(self.picture(index) for index in indices)
        licence = LICENCES.get(self.name, "These images may not be passed on. This page stays on your machine.")
        words = f"Recipe `{self.name}` after {self.iterations} iterations. {self.scores}{licence}"
        return (
            f"## {self.name.capitalize()}\n\n{textwrap.fill(words, 120)}\n\n"
            f'<div class="pictures" markdown>\n\n{shown}\n\n</div>'
        )


def _save(picture: Image.Image, path: Path) -> Path:
    """Write a JPEG of less than 200 KB and return its path."""
    path = path.with_suffix(".jpg")
    for quality in (88, 80, 70, 55):
        picture.convert("RGB").save(path, quality=quality, optimize=True)
        if path.stat().st_size < _MOST_BYTES:
            break
    return path


def put_section(page: str, name: str, section: str) -> str:
    """Return a page whose section between two comments is replaced, or appended where it has none."""
    begin, end = f"<!-- docs_gallery {name}: begin -->", f"<!-- docs_gallery {name}: end -->"
    block = f"{begin}\n{section}\n{end}"
    if begin in page:
        return re.sub(rf"{re.escape(begin)}.*?{re.escape(end)}", lambda _: block, page, flags=re.DOTALL)
    return f"{page.rstrip()}\n\n{block}\n"


def main() -> int:
    """Write the pictures and the page; return 2 where the images may not be in the repository."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="the output folder of a run")
    parser.add_argument("--count", type=int, default=4, help="how many validation images, spread over all")
    parser.add_argument("--images", help="their numbers instead, as 3,11,42")
    parser.add_argument("--local", type=Path, nargs="?", const=ROOT / "build" / "gallery", help="a folder for the page")
    arguments = parser.parse_args()
    try:
        gallery = Gallery(arguments.run, arguments.local or PAGE.parent)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.local is None and gallery.name not in LICENCES:
        print(
            f"error: images of {gallery.name} may not be in the repository, only those of {', '.join(LICENCES)}: "
            "give --local",
            file=sys.stderr,
        )
        return 2
    if arguments.images:
        indices = [int(number) for number in arguments.images.split(",")]
    else:
        indices = np.linspace(0, len(gallery.dataset) - 1, arguments.count).astype(int).tolist()
    section = gallery.section(indices)
    page = PAGE if arguments.local is None else arguments.local / f"{gallery.name}.md"
    text = (
        page.read_text(encoding="utf-8") if page.exists() else f"# {gallery.name.capitalize()}, on this machine only\n"
    )
    page.write_text(put_section(text, gallery.name, section), encoding="utf-8")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
