"""`python -m earthself.local up | down | status | demo`: the commands behind make; settings come from the environment."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from types import FrameType

from earthself.local.errors import LocalError
from earthself.local.home import USERS
from earthself.local.settings import Settings
from earthself.local.stack import Stack

_ENVIRONMENT = """\
environment:
  EARTHSELF_HOME            folder of all state, .earthself
  EARTHSELF_PORT            web interface and REST, 8080 (0 takes a free port; so for the others)
  EARTHSELF_SIGNATURE_PORT  EarthSignature (gRPC), 50051
  EARTHSELF_DATA_PORT       STAC API, tiles and maps, 8081
  EARTHSELF_SAMPLE_PORT     the sample provider, 8082
  EARTHSELF_DAGS            further folders of DAG files, separated by colons
  EARTHSELF_PROVIDERS       EODAG providers in their order, separated by commas; the sample
  PROVIDER AREA START END   for demo: another provider, west,south,east,north (or a GeoJSON file), first day, day after the last
"""


_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks for a clean end."""

_DOWN_SECONDS = 15
"""What a `down` in another terminal needs between the end of the supervisor and its own."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 1 failed, 2 usage, 69 not there)."""
    parser = argparse.ArgumentParser(
        prog="earthself.local", description="The local stack.", epilog=_ENVIRONMENT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start everything; Ctrl-C stops it")
    up.add_argument("--detach", action="store_true", help="return once it is ready; `down` stops it")
    commands.add_parser("down", help="stop everything")
    status = commands.add_parser("status", help="what runs, and where; exit 0 when all is well, 69 when not")
    commands.add_parser("demo", help="a finished land-cover map on a stack of its own")
    for command in (up, status):
        command.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    # SIGINT too: a shell that starts this in the background has it ignored, and that would be inherited.
    for number in _STOPS:
        signal.signal(number, _interrupt)
    try:
        return _run(options)
    except LocalError as error:
        _say(f"error: {error}", error=True)
        return error.exit_code
    except KeyboardInterrupt:
        _say("stopped", error=True)
        return 130


def _run(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    if options.command == "demo":
        from earthself.local.demo import demo

        return demo(settings, _say)
    stack = Stack(settings, (lambda line: _say(line, error=True)) if getattr(options, "json", False) else _say)
    if options.command == "up":
        return _up(stack, options)
    if options.command == "down":
        was_up = stack.home.running() is not None
        stack.down()
        _say("stopped" if was_up else f"nothing was running in {stack.home.path}")
        return 0
    return _status(stack, as_json=options.json)


def _up(stack: Stack, options: argparse.Namespace) -> int:
    running = stack.up()
    if options.json:
        _say(json.dumps(stack.status().to_dict(), indent=1))
    else:
        _say(f"""
EarthSelf is up: {running.url}
  users          {", ".join(USERS)}; passwords in {stack.home.passwords_file}
  EarthSignature {running.signature} (gRPC)
  data           {running.data} (STAC API, tiles, maps)
  sample         {running.sample} (a STAC API with 21 real Sentinel-2 patches)
  results        {stack.home.workspace}
  logs           {stack.home.logs}
Only this machine reaches it. It does not isolate tenants from each other: all workflows run as your own user.""")
    if options.detach:
        return 0
    _say("Ctrl-C stops everything.", error=options.json)
    try:
        while stack.supervised():
            time.sleep(0.5)
        deadline = time.monotonic() + _DOWN_SECONDS
        while stack.home.running() is not None and time.monotonic() < deadline:
            time.sleep(0.5)
        if stack.home.running() is not None:
            _say("error: the supervisor was killed; stopping what is left ...", error=True)
            stack.down()
            _say("stopped; `make up` starts the stack anew, and runs that were under way go on then", error=True)
            return 1
        _say("stopped from elsewhere", error=options.json)
    except KeyboardInterrupt:
        _say("\nstopping ...", error=options.json)
        stack.down()
        _say("stopped", error=options.json)
    return 0


def _status(stack: Stack, *, as_json: bool) -> int:
    status = stack.status()
    if as_json:
        _say(json.dumps(status.to_dict(), indent=1))
    elif status.running is None:
        _say(f"down: nothing is running in {stack.home.path}; `make up` starts it")
    else:
        at = status.running
        _say(f"{'up' if status.up else 'not well'}: {at.url}, EarthSignature {at.signature}, data {at.data}, sample {at.sample}")
        for program in status.programs:
            _say(f"  {program.name:<16}{program.state.lower():<10}{program.description}")
        for name, state in status.health.items():
            if state != "healthy":
                _say(f"  Airflow's {name.replace('_', ' ')} is {state}; see {stack.home.logs}")
        if status.trouble:
            _say(status.trouble)
    return 0 if status.up else 69


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Stop once: an impatient second Ctrl-C must not leave half of the stack running."""
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _say(line: str, *, error: bool = False) -> None:
    stream = sys.stderr if error else sys.stdout
    with contextlib.suppress(OSError):  # a terminal that was closed must not keep the stack from being stopped
        stream.write(line + "\n")
        stream.flush()


if __name__ == "__main__":
    sys.exit(main())
