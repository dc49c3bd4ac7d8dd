"""An exported file as a model: `segment` and `predict` run it without the code of the network."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from maskformer_ext.errors import UserError, printable
from maskformer_ext.inference.programs.metadata import ProgramMetadata, is_program, read_metadata
from maskformer_ext.inference.programs.runtimes import Run, choose_runtime, open_program
from maskformer_ext.inference.query_output import QueryOutput
from maskformer_ext.media.images import resize_shortest_edge


class ExportedModel(nn.Module):
    """What ``export`` wrote, to be given to `segment` in the place of a model.

    The network's output comes from the file, and the kernels of this package reduce it. So every task, threshold, tile
    and view works as with the checkpoint. Calling the model gives the file's own results instead.

    Args:
        path: a ``.onnx`` or ``.pt2`` file.
        runtime: "onnxruntime", "openvino" or "torch"; None: the first that is installed and runs the file.
        device: "cpu", "cuda" ...; None: a GPU where the runtime knows one.

    Attributes:
        metadata: what the file says of itself.
        recipe: the configuration that its weights came with.
        dataset_info: the classes.
        config: of the network.
        runtime: that runs it.

    Raises:
        UserError: if the file is damaged or was not written by ``export``, or the runtime is missing.
    """

    def __init__(self, path: str | Path, *, runtime: str | None = None, device: str | None = None) -> None:
        super().__init__()
        self.path = Path(path).expanduser()
        if not is_program(self.path):
            raise UserError(f"{printable(path)} is no exported program: it must end in .onnx or .pt2")
        self.metadata: ProgramMetadata = read_metadata(self.path)
        self.runtime = choose_runtime(self.path, runtime)
        self.recipe, self.dataset_info = self.metadata.recipe, self.metadata.info
        self.config = self.recipe.model
        self._device = device
        self.eval()

    def open(self) -> None:
        """Load what `segment` needs now, not when it is first called.

        Raises:
            UserError: if the file is damaged, or was exported without the queries.
        """
        _ = self._queries

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the file's own results for (B, 3, H, W) uint8 images of a size that it takes."""
        return dict(zip(self.metadata.outputs, self._all(pixels), strict=True))

    def run_queries(self, pixels: Tensor) -> list[QueryOutput]:
        """Run the network on images of one size.

        A program for one size gets the images in its upper left corner, over the mean colour. Images that are too large
        for it are made smaller first.

        Args:
            pixels: (B, 3, H, W) uint8.

        Returns:
            One output per image.
        """
        height, width = self.metadata.size or pixels.shape[-2:]
        pixels = self._fitting(pixels, height, width)
        crop = (pixels.shape[-2], pixels.shape[-1])
        if crop != (height, width):
            ground = torch.tensor(self.config.pixel_mean).round().to(torch.uint8).view(1, 3, 1, 1)
            canvas = ground.repeat(len(pixels), 1, height, width)
            canvas[..., : crop[0], : crop[1]] = pixels
            pixels = canvas
        multiple = max(1, self.config.size_divisibility)
        padded = (height + -height % multiple, width + -width % multiple)
        step = self.metadata.batch or len(pixels)
        outputs: list[QueryOutput] = []
        for part in pixels.split(step):
            filled = torch.cat([part, part[-1:].expand(step - len(part), -1, -1, -1)])
            *classes, masks = self._queries(filled)
            of_images = zip(classes[0] if classes else [None] * step, masks, strict=True)
            outputs += [QueryOutput(*of_image, padded, crop) for of_image in list(of_images)[: len(part)]]
        return outputs

    def _fitting(self, pixels: Tensor, height: int, width: int) -> Tensor:
        scale = min(height / pixels.shape[-2], width / pixels.shape[-1])
        if scale >= 1:
            return pixels
        longest = max(1, int(max(pixels.shape[-2:]) * scale))
        return torch.stack([resize_shortest_edge(image, 0, longest) for image in pixels])[..., :height, :width]

    @cached_property
    def _all(self) -> Run:
        return self._open(self.metadata.outputs)

    @cached_property
    def _queries(self) -> Run:
        wanted = [name for name in ("class_logits", "mask_logits") if name in self.metadata.outputs]
        if "mask_logits" not in wanted:
            raise UserError(
                f"{printable(self.path)} gives {', '.join(self.metadata.outputs)} only: segment and predict need the "
                "network's own output too: export it with queries among the outputs, as by default"
            )
        return self._open(wanted)

    def _open(self, wanted: tuple[str, ...] | list[str]) -> Run:
        return open_program(self.path, self.metadata.outputs, wanted, self.runtime, self._device)
