"""How a result shows itself: one line, a picture, and a small page for notebooks."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING, Any

from maskformer_ext.errors import UserError, why
from maskformer_ext.inference.results.context import PICTURED_SCORE
from maskformer_ext.inference.results.words import short_name
from maskformer_ext.media.images import png_bytes

if TYPE_CHECKING:
    from maskformer_ext.inference.results.base import Result

_ROWS = 20  # segments in a page
_PAGE_SIDE = 1024  # pixels of the picture in a page


def short_text(result: Result) -> str:
    """Return a result in a line: its size (width x height), what was found, and its time."""
    height, width = result.size
    times = result.times
    spent = "" if times is None else f", {times.total:.0f} ms" if times.total >= 10 else f", {times.total:.1f} ms"
    return f"<{type(result).__name__} {width}x{height}: {result.summary()}{spent}>"


def png_of(result: Result) -> bytes | None:
    """Return the overlay as a PNG; None where the image is not known or cannot be read any more."""
    if result.image is None:
        return None
    try:
        return _png(result)
    except (UserError, ValueError, TypeError):
        return None


def page_of(result: Result) -> str:
    """Return HTML: the line, the overlay, and a table of the segments."""
    parts = [f"<p><code>{escape(short_text(result))}</code></p>"]
    if result.image is None:
        parts.append("<p>The image is not known: <code>plot(image=...)</code> draws on one.</p>")
    else:
        try:
            source = base64.b64encode(_png(result)).decode("ascii")
            text = escape(result.summary(), quote=True)
            parts.append(f'<img style="max-width: 100%" alt="{text}" src="data:image/png;base64,{source}">')
        except (UserError, ValueError, TypeError) as error:
            parts.append(f"<p>No picture: {escape(why(error))}</p>")
    if len(result):
        parts.append(_table(result))
    return f"<div>{''.join(parts)}</div>"


def _png(result: Result) -> bytes:
    return png_bytes(result.plot(size=_PAGE_SIDE))


def _table(result: Result) -> str:
    segments = result.describe_briefly()
    if result.task == "instance":
        segments = [segment for segment in segments if segment["score"] >= PICTURED_SCORE]
    segments = sorted(segments, key=lambda segment: -segment["area"])
    pixels = max(1, result.size[0] * result.size[1])
    rows = "".join(_row(segment, pixels, result.info.colors) for segment in segments[:_ROWS])
    more = f"<p>and {len(segments) - _ROWS} more</p>" if len(segments) > _ROWS else ""
    head = "<tr><th></th><th>class</th><th>score</th><th>share</th><th>pixels</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>{more}"


def _row(segment: dict[str, Any], pixels: int, colors: tuple[tuple[int, int, int], ...]) -> str:
    red, green, blue = colors[segment["category_id"]]
    swatch = f'<span style="color: rgb({red},{green},{blue})">\u25a0</span>'
    score = f"{segment['score']:.2f}" if "score" in segment else "\u2013"
    cells = [swatch, escape(short_name(segment["category"])), score, f"{100 * segment['area'] / pixels:.1f}%"]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in [*cells, str(segment["area"])]) + "</tr>"
