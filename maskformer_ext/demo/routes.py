"""What the server answers: the page, and below /api what the page asks for. Every error is one sentence as JSON."""

from __future__ import annotations

import io
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Protocol

from PIL import Image

from maskformer_ext.config.values import check_choice
from maskformer_ext.demo.answers import list_queries, read_number, read_options, segment_view, show_query
from maskformer_ext.demo.downloads import make_download
from maskformer_ext.demo.media import MediaFolder, clean_name
from maskformer_ext.demo.model import DemoModel, Limits
from maskformer_ext.demo.samples import Samples
from maskformer_ext.demo.views import View, Views
from maskformer_ext.errors import UserError
from maskformer_ext.media.images import png_bytes

_CHUNK = 1 << 20
_MOST_HIDDEN = 100_000
_LONGEST_KEY = 64
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/server.js": ("server.js", "text/javascript; charset=utf-8"),
    "/stage.js": ("stage.js", "text/javascript; charset=utf-8"),
    "/panels.js": ("panels.js", "text/javascript; charset=utf-8"),
    "/queries.js": ("queries.js", "text/javascript; charset=utf-8"),
}


class Stream(Protocol):
    """What an upload is read from."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Answer:
    """What is sent back.

    Attributes:
        body: the bytes.
        kind: their media type.
        status: of HTTP.
        headers: further ones.
    """

    body: bytes
    kind: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(UserError):
    """A request that is not answered, with its status of HTTP."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Routes:
    """Answer the requests of the page.

    Args:
        model: that is shown.
        limits: of what is taken.
        find_samples: finds the pictures that are offered; called when the page first asks for them.

    Attributes:
        token: what every request below /api must carry; only the page itself knows it.
    """

    def __init__(self, model: DemoModel, limits: Limits, find_samples: Callable[[], Samples]) -> None:
        self.model, self.limits = model, limits
        self.token = secrets.token_urlsafe(24)
        self._media = MediaFolder(limits.frames)
        self._views = Views(model, self._media)
        self._find_samples = find_samples
        self._samples: Samples | None = None
        self._samples_lock = threading.Lock()
        page = files("maskformer_ext.demo") / "page"
        self._files = {path: (page / name).read_bytes() for path, (name, _) in _FILES.items()}
        self._files["/"] = self._files["/"].replace(b"{{token}}", self.token.encode())
        self._actions: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "/api/sample": self._take_sample,
            "/api/look": self._look,
            "/api/ground": self._ground,
            "/api/segment": self._segment,
            "/api/queries": lambda asked: _binary(list_queries(self.model, self._view(asked))),
            "/api/query": self._query,
            "/api/download": self._download,
        }

    def get(self, path: str) -> Answer:
        """Answer a request that changes nothing.

        Raises:
            Refusal: if there is nothing at this path.
        """
        if path in self._files:
            return Answer(self._files[path], _FILES[path][1])
        if path == "/api/model":
            return _json(self.model.describe(self.limits))
        if path == "/api/samples":
            return _json({"names": self._offered().names})
        number = path.removeprefix("/api/samples/")
        if number != path and number.isascii() and number.isdecimal() and len(number) < 6:
            offered = self._offered()
            if int(number) < len(offered):
                return Answer(offered.thumbnail(int(number)), "image/jpeg")
        raise Refusal(404, "there is nothing at this address")

    def post(self, path: str, asked: dict[str, Any]) -> Answer:
        """Answer a request with values.

        Raises:
            Refusal: if there is nothing at this path.
            UserError: if a value is not what it must be, or a file cannot be read.
        """
        if path not in self._actions:
            raise Refusal(404, "there is nothing at this address")
        return self._actions[path](asked)

    def upload(self, name: str, stream: Stream, length: int) -> Answer:
        """Take in a file that is sent.

        Args:
            name: what the browser calls it.
            stream: to read ``length`` bytes from.
            length: of the file.

        Raises:
            UserError: if it is no readable picture or video.
        """
        name = clean_name(name)
        path = self._media.new_path(name)
        try:
            with path.open("wb") as file:
                while length and (chunk := stream.read(min(_CHUNK, length))):
                    file.write(chunk)
                    length -= len(chunk)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        if length:
            path.unlink(missing_ok=True)
            raise Refusal(400, f"{name} did not arrive whole: try again")
        return self._describe(self._media.add(name, path))

    def close(self) -> None:
        """Delete the files that were dragged in."""
        self._media.close()

    def _take_sample(self, asked: dict[str, Any]) -> Answer:
        name, content = self._offered().content(read_number("number", asked.get("number"), 0, 1000, whole=True))
        return self.upload(name, io.BytesIO(content), len(content))

    def _offered(self) -> Samples:
        with self._samples_lock:
            if self._samples is None:
                self._samples = self._find_samples()
            return self._samples

    def _describe(self, key: str) -> Answer:
        medium = self._media.get(key)
        return _json({"picture": key, "name": medium.name, "frames": medium.frames, "cut": medium.cut})

    def _view(self, asked: dict[str, Any]) -> View:
        key = asked.get("picture")
        if not isinstance(key, str) or len(key) > _LONGEST_KEY:
            raise UserError("picture must be the id of a picture that was dropped")
        return self._views.get(key, read_number("frame", asked.get("frame", 0), 0, self.limits.frames, whole=True))

    def _look(self, asked: dict[str, Any]) -> Answer:
        view = self._view(asked)
        height, width = view.seen.size
        return _json({"height": height, "width": width, "network_ms": round(view.milliseconds, 1)})

    def _ground(self, asked: dict[str, Any]) -> Answer:
        picture = Image.fromarray(self._view(asked).shown)
        if picture.width * picture.height <= 1 << 19:
            return Answer(png_bytes(picture, compress_level=1), "image/png")
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=92, subsampling=0)
        return Answer(buffer.getvalue(), "image/jpeg")

    def _segment(self, asked: dict[str, Any]) -> Answer:
        task, options, min_score, hidden = self._wanted(asked)
        return _binary(segment_view(self.model, self._view(asked), task, options, min_score, hidden))

    def _query(self, asked: dict[str, Any]) -> Answer:
        place = read_number("place", asked.get("place"), 0, 1_000_000, whole=True)
        return _binary(show_query(self.model, self._view(asked), place))

    def _download(self, asked: dict[str, Any]) -> Answer:
        task, options, min_score, hidden = self._wanted(asked)
        kind = asked.get("kind")
        body, media_type, name = make_download(
            kind if isinstance(kind, str) else "",
            self.model,
            self._view(asked),
            task,
            options,
            min_score=min_score,
            hidden=hidden,
            opacity=float(read_number("opacity", asked.get("opacity", 0.5), 0, 1)),
        )
        return _json_name(body, media_type, name)

    def _wanted(self, asked: dict[str, Any]) -> tuple[str, dict[str, Any], float, set[int]]:
        task, hidden = asked.get("task", self.model.task), asked.get("hidden", [])
        check_choice("task", task if isinstance(task, str) else "", self.model.tasks)
        values = asked.get("values", {})
        if not isinstance(values, dict):
            raise UserError("values must be an object")
        if not isinstance(hidden, list) or len(hidden) > _MOST_HIDDEN or not all(type(k) is int for k in hidden):
            raise UserError("hidden must be a list of class ids")
        min_score = float(read_number("min_score", asked.get("min_score", 0.0), 0, 1))
        return task, read_options(task, values), min_score, set(hidden)


def error_answer(status: int, sentence: str) -> Answer:
    """Return an error as the page shows it."""
    return Answer(json.dumps({"error": sentence}).encode(), status=status)


def _json(value: Any) -> Answer:
    return Answer(json.dumps(value, separators=(",", ":"), allow_nan=False).encode())


def _json_name(body: bytes, kind: str, name: str) -> Answer:
    from urllib.parse import quote

    return Answer(body, kind, headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"})


def _binary(body: bytes) -> Answer:
    return Answer(body, "application/octet-stream")
