"""Stages folders in before a step and out after it, as the containers around it in a pod: `python -m earthself.data.staged`.

What comes in is put together from several staged folders, so that nothing is sent again that lies in the storage already.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from earthself.data.errors import CredentialsRefused, EarthSelfError, TryAgain
from earthself.data.folders import stage_in, stage_out
from earthself.data.storage import Storage

_ARRIVING = ".arriving"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns 0 done, 65 bad input, 69 not there, 75 try again. The last line on standard error says what is wrong."""
    options = _parser().parse_args(argv)
    # A step may run as another user of the pod's group.
    os.umask(0o002)
    storage = Storage()
    urls = [url for url, _ in options.part] if options.way == "in" else [options.url]
    try:
        size = bring(options.root, options.part, storage) if options.way == "in" else stage_out(options.folder, options.url, storage).moved
        for name in options.empty if options.way == "in" else ():
            (options.root / name).mkdir(parents=True, exist_ok=True)
    except EarthSelfError as error:
        told = _expired(error, urls, storage) or error
        sys.stderr.write(f"error: {told}\n")
        return told.exit_code
    sys.stdout.write(f"{size} bytes staged {options.way}\n")
    return 0


def bring(root: Path, parts: Sequence[tuple[str, str]], storage: Storage | None = None) -> int:
    """Put staged folders (URL, folder below `root`) together below `root`, which may be a mount; returns the bytes fetched.

    Nothing is put anywhere before all of it is there. Raises what `stage_in` raises.
    """
    storage, arriving = storage or Storage(), root / _ARRIVING
    moved = [stage_in(url, arriving / str(number), storage).moved for number, (url, _) in enumerate(parts)]
    for number, (_, name) in enumerate(parts):
        _merge(arriving / str(number), root / name)
    shutil.rmtree(arriving, ignore_errors=True)
    return sum(moved)


def _merge(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_dir():
            _merge(path, target / path.name)
        else:
            path.replace(target / path.name)


def _expired(error: EarthSelfError, urls: Sequence[str], storage: Storage) -> TryAgain | None:
    """Keys that ended while the pod waited, or while a step took long, are renewed with the next try."""
    if not isinstance(error, CredentialsRefused):
        return None
    try:
        ends = [keys.expires for url in urls if (keys := storage.profile(url).resolve()) and keys.expires]
    except CredentialsRefused:  # there are none: that is what is wrong
        return None
    if not ends or min(ends) > datetime.now(UTC):
        return None
    return TryAgain(f"the keys for {urls[0]} ended at {min(ends):%Y-%m-%d %H:%M:%S} UTC; raise session_hours of their storage profile")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m earthself.data.staged", description=__doc__)
    ways = parser.add_subparsers(dest="way", required=True)
    into = ways.add_parser("in", help="fetch staged folders")
    into.add_argument("root", type=Path, help="the folder below which all of it lies")
    into.add_argument(
        "--part", nargs=2, action="append", default=[], metavar=("URL", "FOLDER"), help="a staged folder and where it belongs"
    )
    into.add_argument("--empty", action="append", default=[], metavar="FOLDER", help="a folder to make")
    out = ways.add_parser("out", help="stage a folder")
    out.add_argument("folder", type=Path)
    out.add_argument("url")
    return parser


if __name__ == "__main__":
    sys.exit(main())
