"""Images from a web server, and what a server may do wrong: each is one sentence that names the address."""

from __future__ import annotations

import base64
import io
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from web import send, serve

from maskformer_ext.errors import UserError
from maskformer_ext.media import downloads
from maskformer_ext.media.addresses import Address, parse_address
from maskformer_ext.media.downloads import download, save_standard_input
from maskformer_ext.media.file_kinds import ending_of
from maskformer_ext.media.images import read_rgb

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind)
    return buffer.getvalue()


PNG = encoded("PNG")


def _address(text: str) -> Address:
    address = parse_address(text)
    assert address is not None
    return address


@pytest.mark.parametrize(
    ("kind", "ending"), [("PNG", ".png"), ("GIF", ".gif"), ("WEBP", ".webp"), ("AVIF", ".avif"), ("BMP", "")]
)
def test_an_image_is_saved_with_the_ending_of_its_content(tmp_path: Path, kind: str, ending: str) -> None:
    with serve({"/a%20b": encoded(kind)}) as url:
        file = download(_address(f"{url}/a b"), tmp_path)
    assert file is not None and file.suffix == ending and file.read_bytes() == encoded(kind)
    assert read_rgb(file).shape == (30, 40, 3)


def test_the_name_before_the_host_is_sent_as_a_login(tmp_path: Path) -> None:
    seen: list[str] = []

    def answer(handler) -> None:
        seen.append(handler.headers["Authorization"])
        send(handler, PNG)

    with serve({"/a.png": answer}) as url:
        assert download(_address(url.replace("//", "//me:p%40ss@") + "/a.png"), tmp_path) is not None
    assert base64.b64decode(seen[0].removeprefix("Basic ")) == b"me:p@ss"


def test_a_login_is_not_taken_to_another_host(tmp_path: Path) -> None:
    seen: list[str | None] = []

    def answer(handler) -> None:
        seen.append(handler.headers["Authorization"])
        send(handler, PNG)

    with serve({"/b.png": answer}) as other:
        with serve({"/a.png": lambda handler: send(handler, b"", status=302, Location=f"{other}/b.png")}) as url:
            assert download(_address(url.replace("//", "//me:secret@") + "/a.png"), tmp_path) is not None
    assert seen == [None]


WRONG = {
    "a page": (b" \n<!DOCTYPE html><html></html>", "is a page or a text, no image or video"),
    "JSON": (b'{"error": "no"}', "is a page or a text, no image or video"),
    "nothing": (b"", "is empty"),
    "an error": (lambda handler: send(handler, b"", status=503), "the server answers 503"),
    "a size": (lambda handler: send(handler, PNG, Content_Length="99999999999"), "give max_bytes=99999999999"),
    "no size": (lambda handler: send(handler, b"\0" * 200_000, Content_Length=""), "holds more than 100.0 kB"),
    "a part": (lambda handler: send(handler, PNG[:900], Content_Length="3000"), "broke off after"),
    "a file": (lambda handler: send(handler, b"", status=302, Location="file:///etc/passwd"), "file"),
    "ftp": (lambda handler: send(handler, b"", status=302, Location="ftp://127.0.0.1/a"), "begins with ftp"),
    "a circle": (lambda handler: send(handler, b"", status=302, Location="/x"), "302"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_a_server_does_wrong_is_told_in_one_sentence(tmp_path: Path, what: str) -> None:
    answer, reason = WRONG[what]
    with serve({"/x": answer}) as url, pytest.raises(UserError) as caught:  # type: ignore[dict-item]
        download(_address(f"{url}/x"), tmp_path, most_bytes=100_000)
    assert str(caught.value).startswith(f"{url}/x: ") and reason in str(caught.value)


def test_a_missing_page_and_a_dead_server_are_named(tmp_path: Path) -> None:
    with serve({}) as url, pytest.raises(UserError, match=r"/a\.png: the server answers 404"):
        download(_address(f"{url}/a.png"), tmp_path)
    with pytest.raises(UserError, match=r"/a\.png: cannot be reached \(Connection refused\)"):
        download(_address(f"{url}/a.png"), tmp_path)


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nab", b"220 no web server\r\n"])
def test_a_server_that_falls_silent_is_named(tmp_path: Path, monkeypatch, greeting: bytes) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def answer() -> None:
            connection, _ = server.accept()
            connection.sendall(greeting)
            kept.append(connection)

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.png"
        with pytest.raises(UserError, match=r"sent nothing for 0\.2 seconds|220 no web server"):
            download(_address(url), tmp_path)


def test_an_endless_answer_is_left_to_the_reader_of_streams(tmp_path: Path) -> None:
    def answer(handler) -> None:
        send(handler, b"", Content_Type="multipart/x-mixed-replace;boundary=frame", Content_Length="")

    with serve({"/camera": answer}) as url:
        assert download(_address(f"{url}/camera"), tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_standard_input_is_saved_up_to_the_limit(tmp_path: Path) -> None:
    assert save_standard_input(io.BytesIO(PNG), tmp_path).read_bytes() == PNG
    with pytest.raises(UserError, match="standard input: is empty"):
        save_standard_input(io.BytesIO(), tmp_path)
    with pytest.raises(UserError, match=r"standard input: holds more than 1\.0 kB, which is the limit"):
        save_standard_input(io.BytesIO(PNG), tmp_path, most_bytes=1000)


@pytest.mark.parametrize(
    ("start", "ending"),
    [
        (b"\0\0\0\x1cftypavis", ".avif"),
        (b"\0\0\0\x18ftypheic", ".heic"),
        (b"\0\0\0\x18ftypisom", ".mp4"),
        (b"RIFF\0\0\0\0AVI LIST", ".avi"),
        (b"\x1aE\xdf\xa3", ".mkv"),
        ((b"G" + b"\0" * 187) * 2, ".mpg"),
        (b"G", ""),
        (b"", ""),
    ],
)
def test_videos_are_told_by_how_they_begin(start: bytes, ending: str) -> None:
    assert ending_of(start) == ending
