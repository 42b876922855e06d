"""`earthself clean-workspace`: the rules of retention at work in a workspace, and what interrupted stagings left in storages.

`earthself clean` calls it with the runs that the server says are not finished.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from typing import NoReturn

from earthself.data.errors import BadInput, EarthSelfError
from earthself.data.leftovers import Swept, sweep
from earthself.data.retention import Cleaned, Rules, clean
from earthself.data.workspace import Workspace


def main(argv: list[str]) -> int:
    """Command line; returns 0 done, 1 some of it could not be removed, 2 bad usage, 65 bad input, 75 try again."""
    parser = _parser()
    try:
        options = parser.parse_args(argv)
        rules = _rules(options)
        workspace = Workspace(options.workspace) if options.workspace else Workspace.from_env()
        cleaned = clean(workspace, rules, _unfinished(options.unfinished), dry_run=options.dry_run)
    except (EarthSelfError, OSError) as error:
        return _failed(error)
    swept, code = {}, 1 if any(each.error for each in cleaned.disposals) else 0
    for url in options.staged if rules.scratch_hours else ():
        try:
            swept[url] = sweep(url, rules.scratch_hours, dry_run=options.dry_run)
        except EarthSelfError as error:
            code = _failed(error)
    show = _json if options.json else _text
    sys.stdout.write(show(cleaned, swept, dry_run=options.dry_run) + "\n")
    return code


def _failed(error: EarthSelfError | OSError) -> int:
    sys.stderr.write(f"error: {error}\n")
    return error.exit_code if isinstance(error, EarthSelfError) else 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="earthself clean",
        description="Remove from a workspace what is older than its rules say, one whole thing at a time. 0 keeps for ever.",
        epilog="The rules stand in EARTHSELF_RETENTION, as JSON, where no option says otherwise. Exit codes: 0 done, 1 some of it could "
        "not be removed (what and why is said), 2 bad usage, 65 bad input, 75 another process cleans.",
    )
    parser.add_argument("--workspace", metavar="DIR", help="the workspace; else EARTHSELF_WORKSPACE, EARTHSELF_HOME")
    for name, what in (
        ("scratch-hours", "working files of finished runs, shared downloads, leftovers of killed writers (24)"),
        ("runs-days", "runs without a result: failed, or nothing found (90)"),
        ("results-days", "published results, which leave the catalogue too (0)"),
    ):
        parser.add_argument(f"--{name}", type=float, metavar="N", help=f"how long to keep {what}")
    parser.add_argument(
        "--staged", action="append", default=[], metavar="URL", help="also sweep interrupted stagings below s3://PROFILE@bucket/prefix"
    )
    parser.add_argument(
        "--unfinished", metavar="JSON", help="runs to leave alone: [[workflow, run], ...]; `earthself clean` asks the server"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def _rules(options: argparse.Namespace) -> Rules:
    given = {name: getattr(options, name) for name in asdict(Rules()) if getattr(options, name) is not None}
    return replace(Rules.from_env(), **given)


def _unfinished(text: str | None) -> set[tuple[str, str]]:
    try:
        return {(str(dag), str(run)) for dag, run in json.loads(text or "[]")}
    except (ValueError, TypeError):
        raise BadInput(f"--unfinished {text!r} is no list of [workflow, run]") from None


def _json(cleaned: Cleaned, swept: dict[str, Swept], *, dry_run: bool) -> str:
    value = {
        "dry_run": dry_run,
        "bytes": cleaned.size,
        "free_before": cleaned.free_before,
        "free_after": cleaned.free_after,
        "removed": [asdict(each) for each in cleaned.disposals if each.error is None],
        "failed": [asdict(each) for each in cleaned.disposals if each.error is not None],
        "running": list(cleaned.running),
        "staged": {url: asdict(each) for url, each in swept.items()},
    }
    return json.dumps(value, indent=1)


def _text(cleaned: Cleaned, swept: dict[str, Swept], *, dry_run: bool) -> str:
    lines = [
        f"{each.kind:9} {_megabytes(each.size)}  {each.quiet_hours / 24:7.1f} days  {each.path}" + (f": {each.error}" if each.error else "")
        for each in cleaned.disposals
    ]
    lines += [f"running                                  {name}" for name in cleaned.running]
    for url, each in swept.items():
        lines.append(f"staged    {_megabytes(each.size)}  {len(each.objects)} objects, {len(each.uploads)} unfinished uploads below {url}")
    total = cleaned.size + sum(each.size for each in swept.values())
    verb = "would be freed" if dry_run else "freed"
    free = f"{_megabytes(cleaned.free_before).strip()} were free, {_megabytes(cleaned.free_after).strip()} are"
    return "\n".join([*lines, f"{_megabytes(total).strip()} {verb}; {free}"])


def _megabytes(size: int) -> str:
    return f"{size / 1e6:10.1f} MB"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
