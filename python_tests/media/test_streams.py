"""Streams that this machine serves itself, and a generator of pictures in the place of a camera."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip
from PIL import Image
from web import serve

from maskformer_ext.errors import UserError
from maskformer_ext.media import streams
from maskformer_ext.media.addresses import CAMERA, STREAM, Address
from maskformer_ext.media.streams import LiveFrames

pytest.importorskip("av")


def _stream(target: str, kind: str = STREAM) -> Address:
    return Address(kind, target, target, "live", "live")


@pytest.fixture
def tcp() -> Iterator[Callable[..., Address]]:
    """Return a function that serves bytes once over tcp, and then closes or stays silent."""
    servers = []

    def serve_once(content: bytes, *, stays: bool = False) -> Address:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def answer() -> None:
            connection, _ = server.accept()
            try:
                connection.sendall(content)
            except OSError:  # who reads has seen enough
                pass
            if stays:
                servers.append(connection)
            else:
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        return _stream(f"tcp://127.0.0.1:{server.getsockname()[1]}")

    yield serve_once
    for server in servers:
        server.close()


def _transport_stream(tmp_path: Path, frames: int = 12) -> bytes:
    return write_clip(tmp_path / "a.ts", "mpeg2video", frames=frames).read_bytes()


def test_a_stream_that_ends_gives_all_its_frames(tmp_path: Path, tcp) -> None:
    with LiveFrames(tcp(_transport_stream(tmp_path))) as frames:
        seen = list(frames)
        assert frames.rate == 25
    assert [number for number, _ in seen] == list(range(12))
    for number, rgb in seen:
        np.testing.assert_allclose(rgb[40, 50], [20 * number] * 3, atol=6)


def test_frames_of_a_stream_keep_their_numbers_at_a_stride(tmp_path: Path, tcp) -> None:
    with LiveFrames(tcp(_transport_stream(tmp_path)), stride=5) as frames:
        assert [number for number, _ in frames] == [0, 5, 10]


def test_who_leaves_early_stops_the_reader(tmp_path: Path, tcp) -> None:
    with LiveFrames(tcp(_transport_stream(tmp_path, frames=200))) as frames:
        assert next(iter(frames))[0] == 0
    frames._thread.join(20)
    assert not frames._thread.is_alive()


def test_a_camera_is_read_at_its_newest_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "camera_input", lambda device: ("testsrc=size=64x48:rate=200,realtime", "lavfi"))
    with LiveFrames(_stream("/dev/video0", CAMERA), stride=2) as frames:
        source = iter(frames)
        first = next(source)
        with frames._changed:
            assert frames._changed.wait_for(lambda: frames._count > 30, timeout=60)
        later = [next(source) for _ in range(3)]
        assert frames.rate is not None and frames.rate > 0
    assert first[1].shape == (48, 64, 3)
    numbers = [number for number, _ in later]
    assert numbers[0] >= 28 and numbers == sorted(set(numbers)) and all(number % 2 == 0 for number in numbers)


def test_motion_jpeg_over_http_is_read_until_the_server_closes() -> None:
    def answer(handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace;boundary=--frame")
        handler.end_headers()
        for number in range(5):
            buffer = io.BytesIO()
            Image.new("RGB", (64, 48), (40 * number,) * 3).save(buffer, "JPEG")
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(buffer.getvalue())}\r\n\r\n"
            handler.wfile.write(head.encode() + buffer.getvalue() + b"\r\n")

    seen = []
    with serve({"/camera": answer}) as url, pytest.raises(UserError, match="broke off after 5 frames"):
        with LiveFrames(_stream(f"{url}/camera")) as frames:
            for number, rgb in frames:  # some may have been dropped
                seen.append(number)
                np.testing.assert_allclose(rgb[20, 20], [40 * number] * 3, atol=6)
    assert seen[-1] == 4


def test_what_a_stream_does_wrong_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch, tcp) -> None:
    monkeypatch.setattr(streams, "TIMEOUT_SECONDS", 0.3)
    cases = [
        (_stream("tcp://127.0.0.1:1"), r"cannot be opened \(Connection refused\)"),
        (tcp(b"no video" * 999), "cannot be opened"),
        (tcp(b"", stays=True), r"it sent nothing for 0\.3 seconds"),
    ]
    for address, reason in cases:
        with pytest.raises(UserError, match=reason) as caught, LiveFrames(address) as frames:
            list(frames)
        assert str(caught.value).startswith(f"{address}: ")


def test_a_stream_that_falls_silent_is_named_after_its_frames(tmp_path: Path, monkeypatch, tcp) -> None:
    address = tcp(_transport_stream(tmp_path, frames=60), stays=True)
    monkeypatch.setattr(streams, "TIMEOUT_SECONDS", 2.0)
    seen = []
    with pytest.raises(UserError, match=r"broke off after \d+ frames \(it sent nothing for 2 seconds\)"):
        with LiveFrames(address) as frames:
            for number, _ in frames:
                seen.append(number)
    assert seen and seen == list(range(len(seen)))


def test_a_playlist_from_the_web_opens_no_file_of_this_machine(tmp_path: Path) -> None:
    secret = write_clip(tmp_path / "a.ts", "mpeg2video")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n".encode()
    with serve({"/live.m3u8": playlist}) as url, pytest.raises(UserError):
        with LiveFrames(_stream(f"{url}/live.m3u8")) as frames:
            list(frames)
