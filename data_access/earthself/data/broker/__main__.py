"""`python -m earthself.data.broker status`: how the provider accounts stand that this machine's workers share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from earthself.data.broker import AccountStatus, LocalBroker, shared_folder
from earthself.data.dates import format_instant
from earthself.data.errors import EarthSelfError


def main(arguments: Sequence[str] | None = None) -> int:
    """Show the status; exit 69 where there is none yet."""
    parser = argparse.ArgumentParser(prog="python -m earthself.data.broker", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="sessions, requests a second, shares of the teams, breaker, bytes of the month")
    status.add_argument("--json", action="store_true", help="for machines")
    status.add_argument("--folder", type=Path, default=shared_folder(), help="folder of the broker (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        sys.stderr.write(f"{options.folder} is not there: no worker has asked a provider with this EARTHSELF_HOME yet\n")
        return 69
    try:
        found = LocalBroker(options.folder).status()
    except EarthSelfError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    if options.json:
        sys.stdout.write(json.dumps([asdict(each) for each in found], indent=1) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for each in found for line in lines(each)) or "no provider was asked yet\n")
    return 0


def lines(status: AccountStatus) -> list[str]:
    """The status of one account for people."""
    limit = "" if status.rate is None else f" of {status.rate:g}"
    parts = [f"{status.requests_a_second:.2g}{limit} requests/s", f"{status.waiting} waiting", f"breaker {status.breaker}"]
    if status.connections:
        parts.append(f"{status.connections} connections")
    total = sum(status.bytes.values())
    quota = "" if status.quota is None else f" of {status.quota / 1e9:.2f}"
    parts.append(f"{total / 1e9:.2f}{quota} GB in {status.month}")
    said = [f"{status.account}: {', '.join(parts)}"]
    if status.reason:
        said.append(f"  {status.reason}; asked again in {max(0.0, status.opens_in):.0f} s")
    for token in status.tokens:
        ends = "no end stated" if token.expires_in is None else f"ends in {token.expires_in:.0f} s"
        said.append(f"  session {token.name}: token {token.age:.0f} s old, {ends}; {status.logins} logins so far")
    if status.shares:
        said.append("  last minute: " + ", ".join(f"{team} {share:.0%}" for team, share in status.shares.items()))
    for order in status.orders:
        since, expected = (format_instant(datetime.fromtimestamp(time, UTC)) for time in (order.since, order.expected))
        said.append(f"  staging {order.product} since {since}, expected {expected}{' (a guess)' if order.guessed else ''}")
    return said + [f"  {note}" for note in status.notes]


if __name__ == "__main__":
    sys.exit(main())
