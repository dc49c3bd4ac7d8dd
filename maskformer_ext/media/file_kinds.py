"""What bytes are that came without a file's name: told by how they begin."""

from __future__ import annotations

NEEDED = 512
"""How many bytes of the beginning tell."""

_BRANDS = {b"avif": ".avif", b"avis": ".avif", b"heic": ".heic", b"heix": ".heic", b"mif1": ".heic", b"msf1": ".heic"}
_MARKUP = (b"<!doctype html", b"<html", b"<head", b"<?xml", b"<svg", b"{", b"[")
_PACKET = 188  # bytes of an MPEG transport stream


def ending_of(start: bytes) -> str:
    """Return the usual ending of a file that begins so; "" where Pillow may look at it without one.

    Args:
        start: the first `NEEDED` bytes, or all where there are fewer.
    """
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:12], ".mp4")
    if start.startswith(b"RIFF"):
        return {b"WEBP": ".webp", b"AVI ": ".avi"}.get(start[8:12], "")
    signatures = {
        b"\x89PNG": ".png",
        b"GIF8": ".gif",
        b"\xff\xd8\xff": ".jpg",
        b"\x1aE\xdf\xa3": ".mkv",
        b"\0\0\x01\xba": ".mpg",
    }
    for signature, ending in signatures.items():
        if start.startswith(signature):
            return ending
    if len(start) > _PACKET and start[0] == start[_PACKET] == 0x47:
        return ".mpg"  # whatever the ending, FFmpeg looks at the content
    return ""


def is_text(start: bytes) -> bool:
    """Return whether a file that begins so is a page or a document for programs, no picture."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_MARKUP)
