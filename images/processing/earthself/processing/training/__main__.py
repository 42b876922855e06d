"""`python -m earthself.processing.training --truth FOLDER --out FOLDER`: train the baseline, write its file and its card."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from earthself.data.errors import EarthSelfError
from earthself.processing.training.fit import Recipe

_OUT = Path(".earthself") / "models" / "retrained"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 2 usage, else the exit code of the error."""
    parser = argparse.ArgumentParser(prog="python -m earthself.processing.training", description=__doc__)
    parser.add_argument("--truth", type=Path, required=True, help="folder with the labelled data, laid out as docs/models.md says")
    parser.add_argument("--out", type=Path, default=_OUT, help=f"folder to write; its name becomes the model's (default {_OUT})")
    parser.add_argument("--version", default="1.1.0", help="version of the model (default 1.1.0)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same model (default 0)")
    given = parser.parse_args(arguments)
    try:
        _train(given.truth, given.out, given.version, given.seed)
    except EarthSelfError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def _train(folder: Path, out: Path, version: str, seed: int) -> None:
    from earthself.processing.training.baseline import train
    from earthself.processing.training.sources import read_truth
    from earthself.processing.training.truth import pool

    started = time.monotonic()
    _say(0, f"reading {folder}")
    truth = pool(read_truth(folder))
    trained = train(truth, out.resolve().name, version, Recipe(seed=seed), _say)
    trained.write(out)
    scores = trained.card["scores"]
    lines = [f"{out}: {trained.card['name']}:{version}, {len(trained.onnx) / 1000:.0f} kB, {time.monotonic() - started:.0f} s"]
    for way in ("left_out_site", "left_out_site_and_season", "random_split"):
        if way in scores:
            f1, covered = scores[way]["macro_f1"], scores[way]["coverage"]
            interval = f"macro-F1 {f1['value']:.2f} [{f1['low']:.2f}, {f1['high']:.2f}]"
            lines.append(f"{way:26} {interval}, {covered['value']:.0%} of the pixels get a class")
    sys.stdout.write("\n".join(lines) + "\n")


def _say(fraction: float, text: str) -> None:
    sys.stderr.write(f"progress {fraction:.2f} {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
