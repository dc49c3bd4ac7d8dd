"""A model that sees colours, so that what it finds in plain pictures is known exactly, and a server that shows it."""

from __future__ import annotations

import io
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from maskformer_ext.config import Config, DataConfig, InferenceConfig, ModelConfig
from maskformer_ext.data.types import DatasetInfo
from maskformer_ext.demo.model import DemoModel, Limits
from maskformer_ext.demo.routes import Routes
from maskformer_ext.demo.samples import Samples
from maskformer_ext.demo.server import DemoServer
from maskformer_ext.modeling.outputs import DenseOutput
from maskformer_ext.modeling.per_pixel import PerPixelOutput

NAMES = ("red things", "blue ground", "<script>alert(1)</script>")
INFO = DatasetInfo("colours", NAMES, ((220, 40, 40), (40, 60, 220), (40, 200, 80)), thing_classes=(0, 2))
PROBABILITIES = (0.95, 0.9, 0.6, 0.1)  # of red, blue and green; the last query sees nothing


class ColorModel(nn.Module):
    """Query k has the mask where channel k is bright, for red, blue and green.

    Args:
        per_pixel: be a per-pixel baseline instead.
    """

    def __init__(self, *, per_pixel: bool = False) -> None:
        super().__init__()
        self.per_pixel = per_pixel
        self.weight = nn.Parameter(torch.ones(1))
        architecture = "per_pixel_baseline" if per_pixel else "maskformer"
        self.config = ModelConfig(
            architecture, num_classes=3, pixel_mean=[0.0] * 3, pixel_std=[255.0] * 3, size_divisibility=1
        )

    def forward(self, images: Tensor) -> Any:
        """Return logits of the input's own size."""
        channels = 20 * (images[:, [0, 2, 1]] - 0.5)
        if self.per_pixel:
            return PerPixelOutput(channels)
        masks = torch.cat([channels, torch.full_like(channels[:, :1], -10)], dim=1)
        classes = torch.full((4, 4), 1e-4)
        for query, probability in enumerate(PROBABILITIES):
            classes[query, min(query, 2)] = probability
            classes[query, 3] = 1 - probability
        return DenseOutput(classes.log()[None, None], masks[None])


def color_model(
    *, per_pixel: bool = False, task: str = "panoptic", info: DatasetInfo = INFO, tile: int = 0
) -> DemoModel:
    """Return the model as the page holds it."""
    model = ColorModel(per_pixel=per_pixel).eval()
    settings = InferenceConfig(object_mask_threshold=0.5, tile=tile)
    return DemoModel(
        model, Config(model=model.config, data=DataConfig(task=task), inference=settings), info, name="colours"
    )


def color_picture(height: int = 60, width: int = 80) -> np.ndarray:
    """Return a picture that is red on the left, blue on the right, with a green square in the blue."""
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    picture[:, : width // 2, 0] = 255
    picture[:, width // 2 :, 2] = 255
    picture[height // 3 : height // 3 * 2, width * 3 // 4 : width * 7 // 8] = (0, 255, 0)
    return picture


def encoded(rgb: np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    """Return the bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format=format, **options)
    return buffer.getvalue()


class Client:
    """Send requests as the page does.

    Args:
        server: that answers.
    """

    def __init__(self, server: DemoServer) -> None:
        self.server, self.token = server, server.routes.token

    def send(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers of an answer."""
        sent = {"X-Token": self.token, **{name.replace("_", "-"): value for name, value in headers.items()}}
        request = urllib.request.Request(self.server.address + path, data=body, headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), dict(error.headers)

    def post(self, path: str, **values: Any) -> tuple[int, Any]:
        """Return the status and the JSON of an answer."""
        status, body, _ = self.send(path, json.dumps(values).encode())
        return status, json.loads(body)

    def upload(self, content: bytes, name: str = "colours.png") -> tuple[int, dict[str, Any]]:
        """Send a file."""
        status, body, _ = self.send("/api/upload", content, X_Name=name)
        return status, json.loads(body)

    def unpacked(self, path: str, dtype: type[np.generic], **values: Any) -> tuple[dict[str, Any], np.ndarray]:
        """Return the header and the numbers of a packed answer."""
        status, body, _ = self.send(path, json.dumps(values).encode())
        assert status == 200, body
        length = int.from_bytes(body[:4], "little")
        header = json.loads(body[4 : 4 + length])
        return header, np.frombuffer(body[4 + length :], dtype=dtype).reshape(
            *([-1] if "queries" in header else []), *header["size"]
        )


@contextmanager
def serving(model: DemoModel, limits: Limits | None = None, samples: Samples | None = None) -> Iterator[DemoServer]:
    """Serve a model while the block runs."""
    routes = Routes(model, limits or Limits(), lambda: samples or Samples([], lambda _: Path()))
    server = DemoServer(routes, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        routes.close()
        thread.join()
