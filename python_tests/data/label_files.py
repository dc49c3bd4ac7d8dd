"""Label images of every depth, byte by byte, written by the tests: the encoders of Pillow write 8 and 16 bit only."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def packed(numbers, bits):
    """Return rows of numbers with so many bits each, every row filled up to a byte."""
    digits = ((numbers[..., None].astype(np.int64) >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8)
    return [np.packbits(row.ravel()).tobytes() for row in digits]


_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def png(path, numbers, bits, *, palette=False, chunks=(), color=0, interlaced=False):
    """Write a PNG of one channel; ``chunks`` are (name, bytes) before the pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    passes = [numbers[top::down, left::right] for top, left, down, right in _ADAM7] if interlaced else [numbers]
    rows = [row for part in passes if part.size for row in packed(part, bits)]
    header = struct.pack(
        ">IIBBBBB", numbers.shape[1], numbers.shape[0], bits, 3 if palette else color, 0, 0, int(interlaced)
    )
    parts = [(b"IHDR", header), *chunks]
    parts += [(b"PLTE", bytes(range(7, 7 + 3 * (1 << min(bits, 6)))))] if palette else []
    parts += [(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    return path


def pgm(path, numbers, maximum, *, plain=False):
    """Write a PGM file."""
    head = f"P{2 if plain else 5}\n# by hand\n{numbers.shape[1]} {numbers.shape[0]}\n{maximum}\n".encode()
    binary = numbers.astype(">u2" if maximum > 255 else np.uint8).tobytes()
    path.write_bytes(head + (" ".join(map(str, numbers.ravel().tolist())).encode() if plain else binary))
    return path


def pbm(path, numbers, *, plain=False):
    """Write a PBM file, in which 1 is black."""
    head = f"P{1 if plain else 4}\n{numbers.shape[1]} {numbers.shape[0]}\n".encode()
    path.write_bytes(head + (b"".join(b"%d" % n for n in numbers.ravel()) if plain else b"".join(packed(numbers, 1))))
    return path


def bmp(path, numbers, bits, *, shade, top_down=False):
    """Write a BMP whose palette entry of a number is the grey level ``shade(number)``."""
    line = (numbers.shape[1] * bits + 31) // 32 * 4
    rows = [row.ljust(line, b"\0") for row in packed(numbers, bits)]
    body = b"".join(rows if top_down else rows[::-1])
    colors = b"".join(bytes([shade(number)] * 3) + b"\0" for number in range(1 << bits))
    height = -len(rows) if top_down else len(rows)
    header = struct.pack("<IiiHHIIiiII", 40, numbers.shape[1], height, 1, bits, 0, len(body), 0, 0, 0, 0)
    start = 14 + len(header) + len(colors)
    path.write_bytes(b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + colors + body)
    return path


def tiff(path, numbers, bits, *, photometric=1, orientation=1, sample_format=1):
    """Write an uncompressed TIFF of one channel; photometric 0: white is zero, 3: a palette."""
    data = b"".join(packed(numbers, bits)) if bits not in (16, 32) else numbers.astype(f"<u{bits // 8}").tobytes()
    colors = [3] * 3 * (1 << bits) if photometric == 3 else []
    tags = {256: numbers.shape[1], 257: numbers.shape[0], 258: bits, 259: 1, 262: photometric, 277: 1}
    tags |= {274: orientation, 278: numbers.shape[0], 279: len(data), 339: sample_format}
    start = 8 + 2 + 12 * (len(tags) + 1 + bool(colors)) + 4
    tags |= {320: start} if colors else {}
    tags[273] = start + 2 * len(colors)
    entries = [
        struct.pack("<HHII", tag, 3, len(colors), value) if tag == 320 else struct.pack("<HHII", tag, 4, 1, value)
        for tag, value in sorted(tags.items())
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4)
    path.write_bytes(head + struct.pack(f"<{len(colors)}H", *colors) + data)
    return path
