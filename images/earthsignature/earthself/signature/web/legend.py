"""Legends as documents and pictures, for programs that draw our layers and for people who read them."""

from __future__ import annotations

import io
from typing import Any
from xml.sax.saxutils import escape

from earthself.signature.errors import NotFound
from earthself.signature.web.answers import answer
from earthself.signature.web.looks import Look
from PIL import Image, ImageDraw, ImageFont
from starlette.responses import Response

_ROW, _EDGE, _SWATCH, _SIZE = 24, 10, 16, 13
_CACHED = {"Cache-Control": "public, max-age=3600"}


def written(look: Look, form: str) -> Response:
    """Write a legend as json, png or svg; raises `NotFound` for another form."""
    if form == "json":
        return answer(document(look), headers=_CACHED)
    if form == "png":
        return Response(png(look), media_type="image/png", headers=_CACHED)
    if form == "svg":
        return Response(svg(look), media_type="image/svg+xml", headers=_CACHED)
    raise NotFound(f"a legend is there as json, png or svg, not as {form[:20]!r}")


def document(look: Look) -> dict[str, Any]:
    """Say a legend in JSON."""
    return {
        "name": look.name,
        "title": look.title,
        "entries": [{"value": entry.value, "label": entry.label, "color": entry.color} for entry in look.entries],
    }


def svg(look: Look) -> str:
    """Draw a legend as SVG."""
    width, height = _size(look)
    rows = [f'<text x="{_EDGE}" y="{_EDGE + _SIZE}" font-weight="600">{escape(look.title)}</text>']
    for number, entry in enumerate(look.entries, 1):
        y = _EDGE + number * _ROW
        rows.append(f'<rect x="{_EDGE}" y="{y}" width="{_SWATCH}" height="{_SWATCH}" fill="{entry.color or "none"}" stroke="#7b8794"/>')
        rows.append(f'<text x="{_EDGE + _SWATCH + 8}" y="{y + _SIZE}">{escape(entry.label)}</text>')
    style = f'font-family="DejaVu Sans, Verdana, sans-serif" font-size="{_SIZE}" fill="#1f2933"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" {style}>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(rows)}</svg>\n'
    )


def png(look: Look) -> bytes:
    """Draw a legend as PNG."""
    image = Image.new("RGB", _size(look), "#ffffff")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(_SIZE)
    draw.text((_EDGE, _EDGE), look.title, "#1f2933", font)
    for number, entry in enumerate(look.entries, 1):
        y = _EDGE + number * _ROW
        draw.rectangle((_EDGE, y, _EDGE + _SWATCH, y + _SWATCH), entry.color, "#7b8794")
        draw.text((_EDGE + _SWATCH + 8, y), entry.label, "#1f2933", font)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _size(look: Look) -> tuple[int, int]:
    longest = max(len(text) for text in (look.title, *(entry.label for entry in look.entries)))
    return 2 * _EDGE + _SWATCH + 8 + round(0.62 * _SIZE * longest), 2 * _EDGE + _ROW * (len(look.entries) + 1)
