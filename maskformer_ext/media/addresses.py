"""What an input names that is no file: a web address, a stream, a camera, or standard input."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from maskformer_ext.errors import UserError, printable

WEB, STREAM, CAMERA, STANDARD_INPUT = "web", "stream", "camera", "standard input"
_WEB_SCHEMES = ("http", "https")
_STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "tcp", "srt")
_PLAYLISTS = (".m3u8", ".mpd")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_KEPT = "%/:=&?~#+!$,;'@()*[]"  # characters of an address that mean something, or are escapes already
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Address:
    """Something to read that is no file.

    Attributes:
        kind: WEB, STREAM, CAMERA or STANDARD_INPUT.
        target: what is opened.
        shown: what messages and descriptions call it: the address without a password.
        name: what its results are called; may end as a file's name does.
        path: the name with host and folders, for two addresses of one name.
    """

    kind: str
    target: str
    shown: str
    name: str
    path: str

    def __str__(self) -> str:
        return self.shown

    @property
    def is_endless(self) -> bool:
        """Whether it brings frames as long as somebody reads them."""
        return self.kind in (STREAM, CAMERA)

    def as_stream(self) -> Address:
        """Return the same address, to be read frame by frame."""
        return replace(self, kind=STREAM)


def parse_address(text: str) -> Address | None:
    """Return what a text addresses; None where it is the name of a file.

    Args:
        text: ``-``, ``webcam:N``, ``webcam:DEVICE``, ``/dev/videoN`` or an address with a scheme, as ``https://...``.

    Raises:
        UserError: if the scheme is unknown, the address has no host, or there is no such camera.
    """
    if text == "-":
        return Address(STANDARD_INPUT, text, "standard input", "stdin", "stdin")
    if text.startswith("webcam:"):
        return _camera(text.removeprefix("webcam:"), text)
    if re.fullmatch(r"/dev/video\d+", text):
        return _camera(text, text)
    found = _SCHEME.match(text)
    return None if found is None else _remote(text, found[1].lower())


def _remote(text: str, scheme: str) -> Address:
    if scheme not in _WEB_SCHEMES + _STREAM_SCHEMES:
        raise UserError(
            f"input={printable(text)}: addresses begin with http, https, {', '.join(_STREAM_SCHEMES)}, got {scheme}: "
            "download it, and give the file"
        )
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f"input={printable(text)} is no address: {error}") from None
    if not host:
        raise UserError(f"input={printable(text)} is no address: the host is missing")
    shown = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    kind = WEB if scheme in _WEB_SCHEMES else STREAM
    target = text
    if kind == WEB:
        target = quote(text, safe=_KEPT)
        if parts.path.lower().endswith(_PLAYLISTS):
            kind = STREAM
    names = [_plain(part) for part in (host, *PurePosixPath(unquote(parts.path)).parts) if part.strip("/.")]
    return Address(kind, target, printable(shown), names[-1], "/".join(names))


def _plain(part: str) -> str:
    """Return a part of an address in characters that every file system takes."""
    return re.sub(r"[^\w.+=@-]+", "_", part).lstrip(".")[-_LONGEST_NAME:] or "_"


def _camera(device: str, text: str) -> Address:
    if device.isascii() and device.isdecimal():
        device = f"/dev/video{int(device)}"
    path = Path(device)
    if not device.startswith("/dev/"):
        raise UserError(
            f"input={printable(text)}: a camera has a number, as in webcam:0, or a device, as in /dev/video0"
        )
    if not _is_device(path):
        found = sorted(str(camera) for camera in Path("/dev").glob("video[0-9]*"))
        have = f"there {'is' if len(found) == 1 else 'are'} {', '.join(found)}" if found else "this machine has none"
        raise UserError(f"input={printable(text)}: there is no camera {printable(device)}: {have}")
    if not os.access(path, os.R_OK):
        raise UserError(f"input={text}: the camera {device} may not be read: add yourself to its group (often video)")
    name = f"webcam{_plain(path.name).removeprefix('video')}"
    return Address(CAMERA, device, text, name, name)


def _is_device(path: Path) -> bool:
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except (OSError, ValueError):
        return False
