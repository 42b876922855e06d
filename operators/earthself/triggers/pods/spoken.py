"""How a step's lines come into its task's log: progress as what it means, any other line as it is and remembered for an error."""

from __future__ import annotations

from collections.abc import Callable

_TAIL_LINES = 5


class Spoken:
    """Takes lines and says them; `tail` is the last ones that were no progress."""

    def __init__(self, say: Callable[[str], object], tail: list[str] | None = None) -> None:
        """`say` writes to the log; `tail` is what was said before, where somebody else took the lines till now."""
        self._say = say
        self.tail = list(tail or [])

    def __call__(self, line: str) -> None:
        """Say one line."""
        text = _meant(line)
        self._say(text)
        if text == line:
            self.tail[:] = [*self.tail[1 - _TAIL_LINES :], line]


def _meant(line: str) -> str:
    """Write `progress 0.42 reading B04` as ` 42 % reading B04`."""
    word, _, rest = line.partition(" ")
    number, _, text = rest.partition(" ")
    try:
        fraction = float(number) if word == "progress" else -1.0
    except ValueError:
        return line
    return f"{100 * fraction:3.0f} % {text}".rstrip() if 0 <= fraction <= 1 else line
