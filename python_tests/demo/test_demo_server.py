"""What the demo's server answers: maps, queries and files; and what it refuses, in a sentence."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from color_model import INFO, NAMES, Client, color_model, color_picture, encoded, serving
from PIL import Image

from maskformer_ext.demo import media
from maskformer_ext.demo.model import Limits
from maskformer_ext.demo.samples import samples_of_folder
from maskformer_ext.demo.server import DemoServer
from maskformer_ext.errors import UserError
from maskformer_ext.media.decoding import limit_pixels
from maskformer_ext.media.images import read_rgb


@pytest.fixture
def client() -> Iterator[Client]:
    with serving(color_model(), Limits(upload_mb=1, frames=3)) as server:
        yield Client(server)


def _labels(header: dict) -> list[int]:
    return [segment["label"] for segment in header["segments"]]


def test_the_network_runs_once_for_all_thresholds_and_tasks(client: Client) -> None:
    picture = client.upload(encoded(color_picture()))[1]["picture"]
    header, ids = client.unpacked("/api/segment", np.uint16, picture=picture, task="panoptic")
    assert _labels(header) == [0, 1, 2]
    assert header["image"] == [60, 80] and ids.shape[0] * 80 == ids.shape[1] * 60
    assert [ids[5, 5], ids[5, -5], ids[ids.shape[0] // 2, ids.shape[1] * 13 // 16]] == [1, 2, 3]
    fewer, _ = client.unpacked(
        "/api/segment", np.uint16, picture=picture, task="panoptic", values={"object_mask_threshold": 0.7}
    )
    assert _labels(fewer) == [0, 1]
    semantic, _ = client.unpacked("/api/segment", np.uint16, picture=picture, task="semantic")
    assert _labels(semantic) == [0, 1, 2] and sum(s["share"] for s in semantic["segments"]) == pytest.approx(1)
    assert semantic["network_runs"] == client.server.routes.model.runs == 1


def test_instances_hide_by_score_and_by_class(client: Client) -> None:
    picture = client.upload(encoded(color_picture()))[1]["picture"]
    header, ids = client.unpacked("/api/segment", np.uint16, picture=picture, task="instance", min_score=0.5)
    assert _labels(header) == [0, 2] and set(np.unique(ids)) == {0, 1, 2}
    header, ids = client.unpacked("/api/segment", np.uint16, picture=picture, task="instance", min_score=0.8)
    assert _labels(header) == [0]
    header, ids = client.unpacked(
        "/api/segment", np.uint16, picture=picture, task="instance", min_score=0.5, hidden=[0]
    )
    assert _labels(header) == [0, 2] and set(np.unique(ids)) == {0, 2}  # listed, so that it can be shown again


def test_queries_have_masks_and_classes(client: Client) -> None:
    picture = client.upload(encoded(color_picture()))[1]["picture"]
    header, masks = client.unpacked("/api/queries", np.uint8, picture=picture)
    assert [query["label"] for query in header["queries"]] == [0, 1, 2, 2]
    assert [query["used"] for query in header["queries"]] == [True, True, True, False]
    assert masks.shape == (4, 72, 96) and masks[0, 5, 5] == 255 and masks[0, 5, -5] == 0
    header, mask = client.unpacked("/api/query", np.uint8, picture=picture, place=1)
    assert header["classes"][0] == {"label": 1, "probability": pytest.approx(0.9, abs=1e-3)}
    assert mask[5, 5] == 0 and mask[5, -5] == 255
    assert client.post("/api/query", picture=picture, place=4)[0] == 422


def test_tiles_show_their_queries_where_they_lie() -> None:
    with serving(color_model(tile=64)) as server:
        client = Client(server)
        picture = client.upload(encoded(color_picture(64, 128)))[1]["picture"]
        header, ids = client.unpacked("/api/segment", np.uint16, picture=picture, task="semantic")
        assert header["tiles"] == 3 and _labels(header) == [0, 1, 2] and ids[5, 5] == 1 and ids[5, -5] == 2
        header, masks = client.unpacked("/api/queries", np.uint8, picture=picture)
        blue = {query["tile"]: masks[place] for place, query in enumerate(header["queries"]) if query["label"] == 1}
        assert blue[0].max() == 0 and blue[2][:, :48].max() == 0 and blue[2][5, -5] == 255


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_files_to_save_have_the_size_of_the_picture(client: Client, task: str) -> None:
    pycoco = pytest.importorskip("pycocotools.mask")
    picture = client.upload(encoded(color_picture()), "my photo.png")[1]["picture"]
    wanted = {"picture": picture, "task": task, "min_score": 0.5, "opacity": 0.5}
    _, ids, headers = client.send("/api/download", json.dumps({**wanted, "kind": "ids"}).encode())
    assert headers["Content-Disposition"].endswith("my%20photo_ids.png")
    assert np.asarray(Image.open(io.BytesIO(ids))).shape == (60, 80)
    _, overlay, _ = client.send("/api/download", json.dumps({**wanted, "kind": "overlay"}).encode())
    assert Image.open(io.BytesIO(overlay)).width >= 512
    _, coco, _ = client.send("/api/download", json.dumps({**wanted, "kind": "coco"}).encode())
    told = json.loads(coco)
    assert [category["name"] for category in told["categories"]] == list(NAMES)
    found = {annotation["category_id"] - 1: annotation for annotation in told["annotations"]}
    assert set(found) == ({0, 2} if task == "instance" else {0, 1, 2})
    for annotation in found.values():
        assert pycoco.area(annotation["segmentation"]) == annotation["area"]
        assert pycoco.toBbox(annotation["segmentation"]).tolist() == annotation["bbox"]
    assert found[0]["bbox"] == [0, 0, 40, 60] and found[2]["area"] == 10 * 20


def test_a_baseline_is_semantic_only() -> None:
    with serving(color_model(per_pixel=True, task="semantic")) as server:
        client = Client(server)
        assert json.loads(client.send("/api/model")[1])["tasks"] == ["semantic"]
        picture = client.upload(encoded(color_picture()))[1]["picture"]
        assert _labels(client.unpacked("/api/segment", np.uint16, picture=picture)[0]) == [0, 1, 2]
        assert client.post("/api/queries", picture=picture) == (422, {"error": "a per-pixel baseline has no queries"})
        assert client.post("/api/segment", picture=picture, task="panoptic")[0] == 422


@pytest.mark.parametrize(
    ("rgb", "format", "options"),
    [
        (np.full((1, 1, 3), 255, dtype=np.uint8), "PNG", {}),
        (np.full((3, 2000, 3), 255, dtype=np.uint8), "PNG", {}),
        (np.full((2000, 3), 255, dtype=np.uint8), "PNG", {}),
        (np.full((20, 30, 4), 200, dtype=np.uint8), "PNG", {}),
    ],
    ids=["tiny", "wide", "tall and grey", "alpha"],
)
def test_pictures_of_every_form_are_shown(client: Client, rgb: np.ndarray, format: str, options: dict) -> None:
    picture = client.upload(encoded(rgb, format, **options))[1]["picture"]
    assert client.post("/api/look", picture=picture)[0] == 200
    header, ids = client.unpacked("/api/segment", np.uint16, picture=picture)
    assert header["image"] == list(rgb.shape[:2]) and max(ids.shape) <= 1024
    for path in ("/api/ground", "/api/queries"):
        assert client.send(path, json.dumps({"picture": picture}).encode())[0] == 200


def test_exif_turns_a_picture(client: Client) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(color_picture(), "JPEG", exif=exif)
    picture = client.upload(content, "turned.jpg")[1]["picture"]
    assert client.unpacked("/api/segment", np.uint16, picture=picture)[0]["image"] == [80, 60]


def test_frames_of_a_video_are_looked_at_up_to_a_bound(client: Client) -> None:
    frames = [Image.fromarray(np.roll(color_picture(), 10 * shift, axis=1)) for shift in range(5)]
    buffer = io.BytesIO()
    frames[0].save(buffer, format="WEBP", save_all=True, append_images=frames[1:], lossless=True)
    status, told = client.upload(buffer.getvalue(), "film.webp")
    assert status == 200 and told["frames"] == 3 and told["cut"]
    columns = []
    for frame in (0, 2, 1):
        _, ids = client.unpacked("/api/segment", np.uint16, picture=told["picture"], frame=frame, task="semantic")
        columns.append(int((ids[0] == 1).argmax()) * 80 // ids.shape[1])
    assert columns == [0, 20, 10]
    assert client.server.routes.model.runs == 3
    status, told = client.post("/api/look", picture=told["picture"], frame=3)
    assert status == 422 and "has no frame 3" in told["error"] and str(Path("/tmp")) not in told["error"]


@pytest.mark.parametrize(
    ("content", "name", "part"),
    [
        (b"no picture at all", "a.png", "a.png: cannot be read as an image"),
        (encoded(color_picture())[:60], "../../b.png", "b.png: cannot be read as an image"),
        (b"no video", "c.mp4", "c.mp4: "),
        (b"MZ", "d.exe", "d.exe is neither a picture nor a video"),
        (b"<svg/>", "<script>.svg", "<script>.svg is neither a picture nor a video"),
    ],
)
def test_files_that_cannot_be_read_give_a_sentence(client: Client, content: bytes, name: str, part: str) -> None:
    status, told = client.upload(content, name)
    assert status == 422 and told["error"].startswith(part)
    assert "Traceback" not in told["error"] and "maskformer-ext-demo-" not in told["error"]
    assert not list(client.server.routes._media._folder.iterdir())


def test_size_and_pixels_are_bounded(client: Client) -> None:
    with socket.create_connection(("127.0.0.1", client.server.port)) as raw:
        head = f"POST /api/upload HTTP/1.1\r\nHost: 127.0.0.1:{client.server.port}\r\nX-Token: {client.token}\r\n"
        raw.sendall(f"{head}Content-Length: 1000001\r\n\r\n".encode())
        assert b" 413 " in raw.recv(100)
    limit_pixels(100)
    try:
        status, told = client.upload(encoded(color_picture()))
    finally:
        limit_pixels(None)
    assert status == 422 and "has 80x60 = 4800 pixels, more than the limit of 100" in told["error"]


def test_only_the_page_itself_is_answered(client: Client) -> None:
    assert client.send("/api/model", X_Token="guess")[0] == 403
    assert client.send("/", Host="evil.example")[0] == client.send("/", Host="127.0.0.1:1")[0] == 403
    assert client.send("/", Host=f"localhost:{client.server.port}")[0] == 200
    status, body, headers = client.send("/")
    assert status == 200 and client.token.encode() in body
    assert "default-src 'none'" in headers["Content-Security-Policy"] and headers["Cache-Control"] == "no-store"
    assert "Python" not in headers["Server"] and "Access-Control-Allow-Origin" not in headers
    assert client.server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\r\n\r\n"])
def test_what_is_no_request_gets_a_sentence(client: Client, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", client.server.port), timeout=30) as raw:
        raw.sendall(sent)
        answer = b""
        while chunk := raw.recv(4096):
            answer += chunk
    assert b'{"error": "' in answer and b"Traceback" not in answer
    assert client.send("/")[0] == 200


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/%2e%2e/server.py", "/api/samples/../../x", "/api/nothing", "//etc"]
)
def test_no_file_of_the_disk_is_reached(client: Client, path: str) -> None:
    status, body, _ = client.send(path)
    assert status == 404 and json.loads(body) == {"error": "there is nothing at this address"}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/segment", b"{", 400),
        ("/api/segment", b"[]", 400),
        ("/api/segment", b"[" * 100_000, 400),
        ("/api/segment", b'{"picture": "../../etc/passwd"}', 422),
        ("/api/segment", b'{"picture": 7}', 422),
        ("/api/nothing", b"{}", 404),
        ("/api/upload", b"", 400),
    ],
)
def test_requests_that_mean_nothing_are_refused(client: Client, path: str, body: bytes, status: int) -> None:
    got, answer, _ = client.send(path, body)
    assert got == status and set(json.loads(answer)) == {"error"}


@pytest.mark.parametrize(
    "values",
    [
        {"values": {"object_mask_threshold": float("nan")}},
        {"values": {"overlap_threshold": "0.5"}},
        {"values": {"overlap_threshold": 2}},
        {"values": []},
        {"min_score": -1},
        {"hidden": ["a"]},
        {"task": "everything"},
        {"task": "instance", "values": {"top_k": 1e9}},
        {"frame": -1},
    ],
)
def test_values_out_of_bounds_are_named(client: Client, values: dict) -> None:
    picture = client.upload(encoded(color_picture()))[1]["picture"]
    status, told = client.post("/api/segment", picture=picture, **values)
    assert status == 422 and "must be" in told["error"]


def test_an_unforeseen_error_shows_no_traceback(
    client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = client.upload(encoded(color_picture()))[1]["picture"]
    monkeypatch.setattr("maskformer_ext.demo.routes.segment_view", lambda *_: 1 / 0)
    assert client.post("/api/segment", picture=picture) == (
        500,
        {"error": "this did not work: the terminal of the server says why"},
    )
    assert capsys.readouterr().err == "warning: /api/segment failed: ZeroDivisionError: division by zero\n"


def test_the_oldest_files_go(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskformer_ext.demo.media._MOST_FILES", 2)
    pictures = [client.upload(encoded(color_picture()))[1]["picture"] for _ in range(3)]
    assert client.post("/api/look", picture=pictures[0])[0] == 422
    assert client.post("/api/look", picture=pictures[1])[0] == 200
    assert len(list(client.server.routes._media._folder.iterdir())) == 2


def test_a_picture_that_left_the_memory_is_seen_again(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskformer_ext.demo.views._MOST_BYTES", 1)
    pictures = [client.upload(encoded(color_picture()))[1]["picture"] for _ in range(2)]
    for picture in (*pictures, pictures[0]):
        assert client.post("/api/look", picture=picture)[0] == 200
    assert client.server.routes.model.runs == 3


def test_samples_come_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(encoded(color_picture()))
    (tmp_path / "a.png").write_bytes(b"damaged")
    (tmp_path / "notes.txt").write_text("none")
    with serving(color_model(info=INFO), samples=samples_of_folder(tmp_path)) as server:
        client = Client(server)
        assert json.loads(client.send("/api/samples")[1]) == {"names": ["a.png", "b.png"]}
        assert client.send("/api/samples/1")[0] == 200 and client.send("/api/samples/0")[0] == 422
        assert client.post("/api/sample", number=1)[1]["name"] == "b.png"
        assert client.post("/api/sample", number=2)[0] == 422
    with pytest.raises(UserError, match="does not exist: give a folder"):
        samples_of_folder(tmp_path / "none")


def test_a_taken_port_is_passed_over(client: Client) -> None:
    with serving(color_model()) as other:
        second = DemoServer(other.routes, client.server.port)
        try:
            assert client.server.port < second.port
        finally:
            second.server_close()


def test_frames_of_a_video_are_saved_under_names_of_their_own(client: Client) -> None:
    frames = [Image.fromarray(np.roll(color_picture(), 10 * shift, axis=1)) for shift in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, format="WEBP", save_all=True, append_images=frames[1:], lossless=True)
    picture = client.upload(buffer.getvalue(), "my frame 1.webp")[1]["picture"]
    wanted = {"picture": picture, "frame": 2, "task": "panoptic", "kind": "coco"}
    _, coco, headers = client.send("/api/download", json.dumps(wanted).encode())
    assert headers["Content-Disposition"].endswith("my%20frame%201_000002_coco.json")
    assert json.loads(coco)["images"][0]["file_name"] == "my frame 1_000002.png"


def _raw(client: Client, *pieces: bytes, wait: float = 0.0) -> bytes:
    """Return what a connection answers until it is closed, when it is sent pieces."""
    answer = b""
    with socket.create_connection(("127.0.0.1", client.server.port), timeout=30) as raw:
        try:
            for piece in pieces:
                raw.sendall(piece)
                time.sleep(wait)
        except ConnectionError:
            pass
        while chunk := raw.recv(4096):
            answer += chunk
    return answer


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        ("GET http://[x HTTP/1.1", "Connection: close\r\n", b" 404 "),
        ("POST /api/segment HTTP/1.1", "Content-Length: " + "9" * 5000 + "\r\n", b" 411 "),
        ("POST /api/segment HTTP/1.1", "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", b" 411 "),
        ("GET / HTTP/1.1", "Transfer-Encoding: chunked\r\n", b"Connection: close"),
    ],
    ids=["no address", "endless number", "chunked", "chunked and unread"],
)
def test_odd_requests_get_a_sentence_and_no_warning(
    client: Client, request_line: str, headers: str, status: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    own = f"Host: 127.0.0.1:{client.server.port}\r\nX-Token: {client.token}\r\n"
    answer = _raw(client, f"{request_line}\r\n{own}{headers}\r\n".encode())
    assert status in answer and answer.startswith(b"HTTP/1.1 ")
    assert capsys.readouterr().err == ""


def test_a_request_that_trickles_in_is_ended(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskformer_ext.demo.server._PATIENCE", 0.2)
    sent = 0
    with socket.create_connection(("127.0.0.1", client.server.port), timeout=30) as raw, pytest.raises(ConnectionError):
        for piece in (b"GET / HTTP/1.1\r\n", *(b"X: y\r\n",) * 600):
            raw.sendall(piece)
            sent += 1
            time.sleep(0.02)
    assert sent < 600


def test_of_files_that_nobody_looked_at_one_is_held_decoded(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Path] = []

    def counting(path: Path) -> np.ndarray:
        decoded.append(path)
        return read_rgb(path)

    monkeypatch.setattr(media, "read_rgb", counting)
    pictures = [client.upload(encoded(color_picture()))[1]["picture"] for _ in range(3)]
    assert len(decoded) == 3
    assert client.post("/api/look", picture=pictures[2])[0] == 200 and len(decoded) == 3
    assert client.post("/api/look", picture=pictures[0])[0] == 200 and len(decoded) == 4
