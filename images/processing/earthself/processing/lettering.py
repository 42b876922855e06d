"""How wide words are in a picture: letters differ, so lines are broken by their measured width, not by counting characters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

_MORE = " …"
_HINTING = 1.03
"""Letters are drawn on whole pixels, which makes lines of them a little wider than their outlines."""


@contextmanager
def any_glyph() -> Iterator[None]:
    """Let text hold what the font has no letter for: it becomes a box, not a failure."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield


@lru_cache(maxsize=4096)
def inches(text: str, size: float, weight: str = "normal") -> float:
    """Width of a text in the picture's font at a size in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    with any_glyph():
        width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size, weight=weight), ismath=False)
    return float(width) / 72 * _HINTING


def wrapped(text: str, size: float, width: float, indent: str = "") -> list[str]:
    """Break a text into lines of at most `width` inches; lines after the first begin with `indent`. A word that is wider is cut."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line.strip() else line + word
        if inches(longer, size) <= width:
            line = longer
            continue
        if line.strip():
            lines.append(line)
        line = indent + word
        while inches(line, size) > width and len(line) > len(indent) + 1:
            cut = _fitting(line, size, width, "normal")
            lines.append(line[:cut])
            line = indent + line[cut:]
    return [*lines, line] if line.strip() else lines


def one_line(text: str, size: float, width: float, weight: str = "normal") -> str:
    """Shorten a text to one line of at most `width` inches."""
    line = " ".join(text.split())
    if inches(line, size, weight) <= width:
        return line
    return line[: _fitting(line, size, width - inches(_MORE, size, weight), weight)].rstrip() + _MORE


def _fitting(line: str, size: float, width: float, weight: str) -> int:
    """Count the characters of a line that fit, at least 1."""
    low, high = 1, len(line)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if inches(line[:middle], size, weight) <= width else (low, middle - 1)
    return low
