"""What counts as an address, what its results are called, and that passwords are never shown."""

from __future__ import annotations

import pytest

from maskformer_ext.errors import UserError
from maskformer_ext.media import addresses
from maskformer_ext.media.addresses import CAMERA, STANDARD_INPUT, STREAM, WEB, parse_address


@pytest.mark.parametrize("text", ["photo.jpg", "a/b", "C:/photo.jpg", "./-", "photos/*.jpg", "webcam", "a:b", ""])
def test_names_of_files_are_no_addresses(text: str) -> None:
    assert parse_address(text) is None


@pytest.mark.parametrize(
    ("text", "kind", "name", "path"),
    [
        ("-", STANDARD_INPUT, "stdin", "stdin"),
        ("https://a.org/photo.jpg", WEB, "photo.jpg", "a.org/photo.jpg"),
        ("HTTP://A.org/x/photo.jpg?size=3#top", WEB, "photo.jpg", "a.org/x/photo.jpg"),
        ("http://a.org", WEB, "a.org", "a.org"),
        ("http://a.org/a%2Fb%20c.png", WEB, "b_c.png", "a.org/a/b_c.png"),
        ("http://a.org/../.hidden", WEB, "hidden", "a.org/hidden"),
        ("http://a.org/live.m3u8", STREAM, "live.m3u8", "a.org/live.m3u8"),
        ("rtsp://cam:554/front/door", STREAM, "door", "cam/front/door"),
        ("udp://@239.0.0.1:1234", STREAM, "239.0.0.1", "239.0.0.1"),
    ],
)
def test_addresses_and_names(text: str, kind: str, name: str, path: str) -> None:
    address = parse_address(text)
    assert address is not None
    assert (address.kind, address.name, address.path) == (kind, name, path)


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_passwords_are_not_shown(scheme: str) -> None:
    address = parse_address(f"{scheme}://me:secret@a.org/x.png")
    assert address is not None and "secret" in address.target
    assert str(address) == address.shown == f"{scheme}://a.org/x.png"


def test_letters_beyond_ascii_and_spaces_are_escaped_once() -> None:
    address = parse_address("http://a.org/caf\u00e9 1%20.png")
    assert address is not None and address.target == "http://a.org/caf%C3%A9%201%20.png"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("s3://bucket/a.png", "addresses begin with http, https"),
        ("file:///etc/passwd", "got file"),
        ("http:///a.png", "the host is missing"),
        ("http://a.org:port/a.png", "is no address"),
        ("http://[::1/a.png", "is no address"),
        ("webcam:", "a camera has a number"),
        ("webcam:front", "a camera has a number"),
        ("webcam:873", "there is no camera /dev/video873"),
        ("/dev/video873", "there is no camera /dev/video873"),
    ],
)
def test_impossible_addresses_are_told_in_one_sentence(text: str, reason: str) -> None:
    with pytest.raises(UserError, match="input=") as caught:
        parse_address(text)
    assert reason in str(caught.value)


def test_cameras_are_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_is_device", lambda path: True)
    monkeypatch.setattr(addresses.os, "access", lambda path, mode: True)
    for text in ("webcam:2", "webcam:/dev/video2", "/dev/video2"):
        address = parse_address(text)
        assert address is not None and address.is_endless
        assert (address.kind, address.target, address.name) == (CAMERA, "/dev/video2", "webcam2")
    monkeypatch.setattr(addresses.os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="may not be read"):
        parse_address("webcam:0")
