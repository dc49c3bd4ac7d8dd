"""Images and videos from the web or standard input, saved to a temporary file of bounded size."""

from __future__ import annotations

import base64
import http.client
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit, urlunsplit

from maskformer_ext.errors import UserError, printable, why
from maskformer_ext.media.addresses import Address
from maskformer_ext.media.file_kinds import NEEDED, ending_of, is_text

TIMEOUT_SECONDS = 20.0
"""How long a server may be silent."""

MOST_BYTES = 1_000_000_000
"""How large an input without a file may be, unless the user says otherwise."""

_STREAM_TYPES = (
    "multipart/x-mixed-replace",  # cameras that send one JPEG after the other
    "application/vnd.apple.mpegurl",
    "application/x-mpegurl",
    "audio/mpegurl",
    "audio/x-mpegurl",
    "application/dash+xml",
)
_BLOCK = 1 << 20


def download(address: Address, folder: Path, most_bytes: int = MOST_BYTES) -> Path | None:
    """Save what a web address holds.

    Args:
        address: of the kind WEB.
        folder: for the file, which gets the ending of what it holds.
        most_bytes: the largest size that is taken.

    Returns:
        The file; None where the answer is a stream, which has no end.

    Raises:
        UserError: if the server cannot be reached, answers with an error or a page, stops early, or sends too much.
    """
    try:
        with _open(address.target) as answer:
            kind, length = answer.headers.get_content_type(), _length(answer)
            if kind in _STREAM_TYPES or (kind == "video/mp2t" and length is None):
                return None
            return _save(answer.read, folder, address.shown, most_bytes, length)
    except urllib.error.HTTPError as error:
        error.close()
        reason = printable(f"{error.code} {error.reason or ''}")
        raise UserError(f"{address}: the server answers {reason}") from None
    except urllib.error.URLError as error:
        cause: object = error.reason
        reason = _said(cause) if isinstance(cause, Exception) else printable(cause)
        raise UserError(f"{address}: cannot be reached ({reason})") from None
    except http.client.IncompleteRead as error:
        raise UserError(f"{address}: broke off after {size_text(len(error.partial))}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UserError(f"{address}: cannot be read ({_said(error)})") from None


def save_standard_input(stream: Any, folder: Path, most_bytes: int = MOST_BYTES) -> Path:
    """Save the bytes of standard input.

    Args:
        stream: a binary file.
        folder: for the file, which gets the ending of what it holds.
        most_bytes: the largest size that is taken.

    Raises:
        UserError: if there are none, or too many.
    """
    try:
        return _save(stream.read, folder, "standard input", most_bytes, None)
    except OSError as error:
        raise UserError(f"standard input: cannot be read ({why(error)})") from None


def size_text(count: int) -> str:
    """Return a number of bytes in words."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _open(target: str) -> Any:
    parts = urlsplit(target)
    headers = {"User-Agent": "maskformer-ext", "Accept": "image/*, video/*, */*;q=0.5"}
    login, has_login, host = parts.netloc.rpartition("@")
    if has_login:
        headers["Authorization"] = f"Basic {base64.b64encode(unquote(login).encode()).decode('ascii')}"
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=host, fragment="")), headers=headers)
    return urllib.request.build_opener(_OnlyTheWeb).open(request, timeout=TIMEOUT_SECONDS)


class _OnlyTheWeb(urllib.request.HTTPRedirectHandler):
    """Follow a server to other web addresses only, and take no password along."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https"):
            raise urllib.error.URLError(f"it leads to an address that begins with {new.scheme}")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and (old.scheme, old.netloc) != (new.scheme, new.netloc):
            request.headers.pop("Authorization", None)
        return request


def _length(answer: Any) -> int | None:
    text = answer.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _save(read: Callable[[int], bytes], folder: Path, shown: str, most_bytes: int, length: int | None) -> Path:
    """Copy to a file, block by block, until the end or the limit."""
    if length is not None and length > most_bytes:
        raise _too_large(shown, f"holds {size_text(length)}", most_bytes, length)
    start = read(NEEDED)
    while start and len(start) < NEEDED and (more := read(NEEDED - len(start))):
        start += more
    if not start:
        raise UserError(f"{shown}: is empty, where an image or a video was expected")
    if is_text(start):
        raise UserError(f"{shown}: is a page or a text, no image or video: give the address of the file itself")
    file, count = folder / f"input{ending_of(start)}", 0
    with file.open("wb") as target:
        block = start
        while block:
            count += len(block)
            if count > most_bytes:
                raise _too_large(shown, f"holds more than {size_text(most_bytes)}", most_bytes, None)
            _write(target, block, shown, folder)
            block = read(_BLOCK)
    if length is not None and count < length:
        raise UserError(f"{shown}: broke off after {size_text(count)} of {size_text(length)}")
    return file


def _write(target: BinaryIO, block: bytes, shown: str, folder: Path) -> None:
    try:
        target.write(block)
    except OSError as error:
        raise UserError(f"{shown}: cannot be kept in {folder} ({why(error)}): TMPDIR names another folder") from None


def _too_large(shown: str, problem: str, most_bytes: int, length: int | None) -> UserError:
    limit = f", and the limit is {size_text(most_bytes)}" if length is not None else ", which is the limit"
    advice = length if length is not None else "N"
    return UserError(f"{shown}: {problem}{limit}: if you trust it, give max_bytes={advice}")


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError | socket.timeout):
        return f"it sent nothing for {TIMEOUT_SECONDS:g} seconds"
    return why(error)
