"""Frames that arrive while they are read: cameras and network streams, through PyAV, in a thread of their own."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any

import numpy as np

from maskformer_ext.errors import UserError, why
from maskformer_ext.media.addresses import CAMERA, Address
from maskformer_ext.media.videos import frame_rgb, pyav

TIMEOUT_SECONDS = 15.0
"""How long a stream may be silent."""

_WEB = ("http://", "https://")
_WAITS_FOR_READER = ("http://", "https://", "tcp://", "srt://")
_WAITING_FRAMES = 2
_TICK_SECONDS = 0.5  # between looks at whether the user wants to stop


class LiveFrames:
    """Read a camera or a stream; use it in a ``with`` block and iterate over it.

    A camera does not wait for a slow network: what it sends meanwhile is dropped, and the newest frame comes next.
    Streams over http, tcp and srt wait for their reader, but for motion JPEG. Frames keep their own numbers.

    Args:
        address: of the kind CAMERA or STREAM.
        stride: take every so-manyth frame.

    Raises:
        UserError: if it cannot be opened, holds no video, breaks off, or is silent for too long.
    """

    def __init__(self, address: Address, *, stride: int = 1) -> None:
        self._named_rate: Fraction | None = None
        self._address, self._stride = address, stride
        self._waits, self._begun, self._latest = False, 0.0, 0.0
        self._frames: deque[tuple[int, Any]] = deque()
        self._changed = threading.Condition()
        self._stopped, self._ended, self._count = False, False, 0
        self._problem: Exception | None = None

    def __enter__(self) -> LiveFrames:
        self._container = self._open()
        if not self._container.streams.video:
            self._container.close()
            raise UserError(f"{self._address}: holds no video")
        self._waits = self._address.target.startswith(_WAITS_FOR_READER) and self._container.format.name != "mpjpeg"
        self._named_rate = self._container.streams.video[0].average_rate
        self._thread = threading.Thread(target=self._read, name="frames", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(_TICK_SECONDS)  # it may wait for a frame, and ends after it

    @property
    def rate(self) -> Fraction | None:
        """Frames per second: as the source names it, or as they arrive where it does not wait; None where unknown."""
        seconds = self._latest - self._begun
        if self._waits or self._count < 2 or seconds <= 0:
            return self._named_rate
        return Fraction((self._count - 1) / seconds).limit_denominator(1000) or self._named_rate

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the number of each frame, from 0, and its pixels, (H, W, 3) uint8 RGB."""
        while True:
            with self._changed:
                while not self._frames and not self._ended:
                    self._changed.wait(_TICK_SECONDS)
                if not self._frames:
                    break
                number, frame = self._frames.popleft()
                self._changed.notify_all()
            yield number, frame_rgb(frame, self._address)
        if self._problem is not None:
            raise UserError(f"{self._address}: broke off after {self._count} frames ({_said(self._problem)})")
        if self._count == 0:
            raise UserError(f"{self._address}: ended before its first frame")

    def _open(self) -> Any:
        address = self._address
        av, target, options, kind = pyav(address), address.target, {}, None
        self._damaged = av.error.InvalidDataError
        if address.kind == CAMERA:
            target, kind = camera_input(target)
        elif target.startswith(_WEB):  # a playlist from the web names no files of this machine
            options = {"protocol_whitelist": "http,https,httpproxy,tls,tcp,crypto,data", "user_agent": "maskformer-ext"}
        elif target.startswith("rtsp"):
            options = {"rtsp_flags": "prefer_tcp"}
        try:
            return av.open(target, format=kind, options=options, timeout=TIMEOUT_SECONDS)
        except Exception as error:  # FFmpeg's own errors and whatever its binding makes of an odd answer
            raise UserError(f"{address}: cannot be opened ({_said(error)})") from None

    def _read(self) -> None:
        """Decode until the end, an error, or a wish to stop; runs in the thread."""
        try:
            with self._container:
                for packet in self._container.demux(video=0):
                    for frame in self._decoded(packet):
                        self._latest = time.monotonic()
                        self._begun = self._begun or self._latest
                        self._count += 1
                        if not self._offer(self._count - 1, frame):
                            return
        except Exception as error:
            self._problem = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _decoded(self, packet: Any) -> list[Any]:
        """Return the frames of a packet; who joins a stream gets some that refer to what was sent before."""
        try:
            return packet.decode()
        except self._damaged:
            return []

    def _offer(self, number: int, frame: Any) -> bool:
        """Hand a frame over; return whether to go on."""
        with self._changed:
            if number % self._stride == 0:
                while self._waits and len(self._frames) >= _WAITING_FRAMES and not self._stopped:
                    self._changed.wait(_TICK_SECONDS)
                if not self._waits:
                    self._frames.clear()  # the newest frame is what a camera is watched for
                self._frames.append((number, frame))
                self._changed.notify_all()
            return not self._stopped


def camera_input(device: str) -> tuple[str, str]:
    """Return what PyAV opens for a camera, and in which format.

    Raises:
        UserError: if cameras cannot be read on this system.
    """
    if sys.platform != "linux":
        raise UserError(f"{device}: cameras are read on Linux only: serve it as a stream, and give its address")
    return device, "v4l2"


def _said(error: Exception) -> str:
    if "Immediate exit requested" in str(error):  # how FFmpeg calls a timeout
        return f"it sent nothing for {TIMEOUT_SECONDS:g} seconds"
    return why(error)
