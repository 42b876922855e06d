"""How a line of a step is put for people: `progress 0.42 reading B04` as ` 42 % reading B04`, any other line as it is."""

from __future__ import annotations


def spoken(line: str) -> str:
    """Give the words for the log."""
    word, _, rest = line.partition(" ")
    number, _, text = rest.partition(" ")
    try:
        fraction = float(number) if word == "progress" else -1.0
    except ValueError:
        return line
    return f"{100 * fraction:3.0f} % {text}".rstrip() if 0 <= fraction <= 1 else line
