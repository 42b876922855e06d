"""`python -m earthself.data.broker`: `status` of the provider accounts that workers share, and `serve`, which shares them in a cluster."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from earthself.data import logs
from earthself.data.broker import AccountStatus, LocalBroker, Place, shared_folder
from earthself.data.broker.place import TOKEN, TOKEN_FILE
from earthself.data.dates import format_instant
from earthself.data.errors import EarthSelfError

_PATIENCE = 5.0  # seconds for which a person waits for a service that is away


def main(arguments: Sequence[str] | None = None) -> int:
    """Show the status, or serve; the exit code is that of the error, 69 where there is no status yet."""
    options = _parser().parse_args(arguments)
    try:
        return _serve(options) if options.command == "serve" else _status(options)
    except EarthSelfError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m earthself.data.broker", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="sessions, requests a second, shares of the teams, breaker, bytes of the month")
    status.add_argument("--json", action="store_true", help="for machines")
    where = status.add_mutually_exclusive_group()
    where.add_argument("--folder", type=Path, help=f"folder of the broker (default: {shared_folder()})")
    where.add_argument("--broker", help="address of a broker's service (default: EARTHSELF_BROKER); its token as workers have it")
    serve = commands.add_parser("serve", help="answer the workers of a cluster, until SIGTERM")
    serve.add_argument("--bind", default="127.0.0.1:8083", metavar="HOST:PORT", help="where to listen (default: %(default)s)")
    serve.add_argument("--folder", type=Path, default=shared_folder(), help="where it keeps what is shared (default: %(default)s)")
    serve.add_argument("--token-file", type=Path, help=f"tokens of the callers, one a line (default: {TOKEN_FILE}, else {TOKEN} itself)")
    serve.add_argument("--tls-cert", type=Path, help="certificate (PEM) to encrypt with")
    serve.add_argument("--tls-key", type=Path, help="key of the certificate (PEM)")
    return parser


def _serve(options: argparse.Namespace) -> int:
    from earthself.data.broker.server import Serving, serve

    host, _, port = options.bind.rpartition(":")
    if not host or not port.isdecimal():
        sys.stderr.write(f"--bind {options.bind!r} is not like 127.0.0.1:8083\n")
        return 2
    logs.configure()
    token_file = options.token_file or (Path(os.environ[TOKEN_FILE]) if os.environ.get(TOKEN_FILE) else None)
    serving = Serving(options.folder, host.strip("[]"), int(port), token_file, os.environ.get(TOKEN, ""), options.tls_cert, options.tls_key)
    serve(serving, lambda address: print(f"the download broker answers at {address}", flush=True))  # noqa: T201 - for who started it
    return 0


def _status(options: argparse.Namespace) -> int:
    place = Place.from_env(options.broker) if options.folder is None else None
    folder = options.folder or shared_folder()
    if place is None and not folder.is_dir():
        sys.stderr.write(f"{folder} is not there: no worker has asked a provider with this EARTHSELF_HOME yet\n")
        return 69
    found = (place.open(_PATIENCE) if place else LocalBroker(folder)).status()
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
