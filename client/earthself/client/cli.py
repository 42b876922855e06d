"""The command `earthself`: log in, start a run, follow it, show what came of it.

Subcommands of other distributions (such as `replay`) are found through the entry point group `earthself.commands`: functions
`main(arguments) -> exit code`, imported only when they are called.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from earthself.client import logins, requests
from earthself.client.client import Client, connect
from earthself.client.errors import ClientError
from earthself.client.rest import Rest
from earthself.client.run import Run
from earthself.client.show import Follower, show_estimate, show_result, show_tasks
from earthself.client.watched import show_freshness, show_outdated, show_why

GROUP = "earthself.commands"
CLEANER = "clean-workspace"
"""The command of that group that cleans a workspace, given the runs to leave alone."""


app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
_Url = Annotated[str | None, typer.Option("--url", help="The server; else EARTHSELF_URL, the local stack, or the last login.")]
_User = Annotated[str | None, typer.Option("--user", help="The user; else EARTHSELF_USER, or creator on the local stack.")]
_RunId = Annotated[str | None, typer.Argument(help="The run's id; the latest one where it is left out.")]
_Area = Annotated[str, typer.Option("--area", help="west,south,east,north in degrees, or a GeoJSON file.")]
_Start = Annotated[str, typer.Option("--start", help="First day or time, such as 2017-06-13.")]
_End = Annotated[str, typer.Option("--end", help="Day or time after the last one.")]
_Collection = Annotated[str | None, typer.Option("--collection", help="EODAG collection; S2_MSI_L2A.")]
_Provider = Annotated[str | None, typer.Option("--provider", help="EODAG provider; else the server's order.")]
_Cover = Annotated[float | None, typer.Option("--max-cloud-cover", help="Percent of a scene; 60.")]
_Mask = Annotated[str | None, typer.Option("--mask", help="auto, scl, csmask or none; auto.")]
_Model = Annotated[str | None, typer.Option("--model", help="Name in the model registry; the shipped baseline.")]
_Products = Annotated[int | None, typer.Option("--max-products", help="Refuse when more match; 200.")]
_Staging = Annotated[float | None, typer.Option("--staging-hours", help="Wait so long for products in archives; 6.")]
_Title = Annotated[str | None, typer.Option("--title", help="A name for people.")]


@app.callback()
def _about() -> None:
    """EarthSelf: from an area of interest to a published land-cover map."""


@app.command()
def login(
    url: _Url = None,
    user: Annotated[str | None, typer.Option("--user", help="The user; asked for where it is left out.")] = None,
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")] = False,
    as_json: _Json = False,
) -> None:
    """Log in and keep the token (mode 600, never the password) for later commands."""
    place = logins.server(url)
    name = user or os.environ.get("EARTHSELF_USER") or typer.prompt("user")
    password = sys.stdin.readline().rstrip("\n") if password_stdin else os.environ.get("EARTHSELF_PASSWORD")
    password = password or typer.prompt("password", hide_input=True)
    token = Rest(logins.Login(place, user=name, password=password)).token()
    path = logins.store(logins.Login(place, user=name, token=token))
    _print({"url": place, "user": name, "file": str(path)} if as_json else f"logged in at {place} as {name}; the token is in {path}")


@app.command()
def run(
    *,
    area: _Area,
    start: _Start,
    end: _End,
    collection: _Collection = None,
    provider: _Provider = None,
    max_cloud_cover: _Cover = None,
    mask: _Mask = None,
    model: _Model = None,
    max_products: _Products = None,
    staging_hours: _Staging = None,
    title: _Title = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start it and return.")] = False,
    url: _Url = None,
    user: _User = None,
    as_json: _Json = False,
) -> None:
    """Make a land-cover map of an area and a period, and show what came of it."""
    requests.area(area)  # a slip is told before anything is contacted
    client = connect(url, user)
    options = {
        "collection": collection,
        "provider": provider,
        "max_cloud_cover": max_cloud_cover,
        "mask": mask,
        "model": model,
        "max_products": max_products,
        "staging_hours": staging_hours,
        "title": title,
    }
    started = client.land_cover_map(area=area, start=start, end=end, **options)
    _note(f"run {started.run_id} at {client.url} as {client.user or 'the stored login'}")
    if no_wait:
        _print({"dag_id": started.dag_id, "run_id": started.run_id, "url": started.url} if as_json else started.url)
        return
    _finish(started, as_json=as_json)


@app.command()
def estimate(
    *,
    area: _Area,
    start: _Start,
    end: _End,
    collection: _Collection = None,
    provider: _Provider = None,
    max_cloud_cover: _Cover = None,
    url: _Url = None,
    user: _User = None,
    as_json: _Json = False,
) -> None:
    """Say what a land-cover map would cost, without starting anything."""
    requests.area(area)
    client = connect(url, user)
    options = {"collection": collection, "provider": provider, "max_cloud_cover": max_cloud_cover}
    found = client.estimate(area=area, start=start, end=end, **options)
    advice = [] if found.products else client.advice(area=area, start=start, end=end, **options)
    if as_json:
        _print({**asdict(found), "advice": advice})
    else:
        show_estimate(found, advice)


@app.command()
def status(
    run_id: _RunId = None,
    *,
    outdated: Annotated[bool, typer.Option("--outdated", help="List results made from products that were reprocessed since.")] = False,
    freshness: Annotated[bool, typer.Option("--freshness", help="Show how fresh the watched areas are.")] = False,
    days: Annotated[float, typer.Option("--days", help="Days of --freshness.")] = 30,
    url: _Url = None,
    user: _User = None,
    as_json: _Json = False,
) -> None:
    """Show how far a run is, and why it failed if it did; exit 1 for a failed run, and for an area that is not as fresh as promised."""
    if (run_id is not None) + outdated + freshness > 1:
        raise typer.BadParameter("give a run's id, --outdated or --freshness, one of them")
    client = connect(url, user)
    if outdated:
        _outdated(client, as_json=as_json)
    elif freshness:
        _freshness(client, days, as_json=as_json)
    else:
        _status(_find(client, run_id), as_json=as_json)


@app.command(context_settings={"ignore_unknown_options": True})  # an area may begin with a minus
def why(
    area: Annotated[str, typer.Argument(help="west,south,east,north in degrees, or a GeoJSON file.")],
    time: Annotated[str, typer.Argument(help="A day such as 2017-06-13, or START/END.")],
    url: _Url = None,
    user: _User = None,
    as_json: _Json = False,
) -> None:
    """Say what became of the products of a watched area, or why there are none."""
    requests.area(area)
    requests.time(time)
    found = connect(url, user).why(area, time)
    if as_json:
        _print(found)
    else:
        show_why(found)


@app.command()
def report(
    run_id: _RunId = None,
    save: Annotated[Path | None, typer.Option("--save", help="Write the report to this file.")] = None,
    url: _Url = None,
    user: _User = None,
    as_json: _Json = False,
) -> None:
    """Show the result of a run: areas, warnings, where its files are; optionally save its report."""
    found = _find(connect(url, user), run_id)
    if save:
        save.write_bytes(found.read("report.html"))
        _note(f"report written to {save}")
    _show(found, as_json=as_json)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def clean(
    context: typer.Context,
    *,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the server which runs are unfinished: go by age alone.")] = False,
    url: _Url = None,
    user: _User = None,
) -> None:
    """Remove from this machine's workspace what is older than its rules say; see `earthself clean-workspace --help` for the options."""
    cleaner = next((point for point in entry_points(group=GROUP) if point.name == CLEANER), None)
    if cleaner is None:
        _fail("the workspace cannot be cleaned from here; install earthself-data where the workspace is", 69)
    runs = [] if offline else connect(url, user).unfinished()
    raise typer.Exit(_load(cleaner)([*context.args, "--unfinished", json.dumps(runs)]))


def main() -> None:
    """Run the command line; ends the process with the exit codes of the platform's contract."""
    for point in entry_points(group=GROUP):
        _add(point)
    try:
        app()
    except ClientError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("stopped; a run that was started goes on", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has seen enough


def _add(point: EntryPoint) -> None:
    """Make another distribution's `main` a subcommand that gets all its arguments, `--help` too."""

    def call(context: typer.Context) -> None:
        raise typer.Exit(_load(point)(list(context.args)))

    call.__doc__ = f"See `earthself {point.name} --help`."
    untouched = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
    app.command(point.name, context_settings=untouched, add_help_option=False)(call)


def _load(point: EntryPoint) -> Callable[[list[str]], int]:
    try:
        function: Callable[[list[str]], int] = point.load()
    except ImportError as error:
        _fail(f"`earthself {point.name}` cannot be loaded here ({error}); install the distribution that brings it, with its packages", 69)
    return function


def _status(found: Run, *, as_json: bool) -> None:
    state, tasks = found.status, found.tasks()
    reason = found.reason() if state == "failed" else ""
    if as_json:
        _print({"run_id": found.run_id, "state": state, "reason": reason, "tasks": [asdict(task) for task in tasks], "url": found.url})
    else:
        show_tasks(found, state, tasks, reason)
    if state == "failed":
        raise typer.Exit(1)


def _outdated(client: Client, *, as_json: bool) -> None:
    found = client.outdated()
    if as_json:
        _print(found)
    else:
        show_outdated(found)


def _freshness(client: Client, days: float, *, as_json: bool) -> None:
    found = client.freshness(days)
    if as_json:
        _print(found)
    else:
        show_freshness(found)
    if any(area["met"] is False for area in found["areas"]):
        raise typer.Exit(1)


def _finish(started: Run, *, as_json: bool) -> None:
    with Follower(started) as follower:
        started.wait(progress=follower, note=follower.note)
    with started.patient(note=_note):
        _show(started, as_json=as_json)


def _show(found: Run, *, as_json: bool) -> None:
    result, advice = found.result, found.advice()
    areas = [] if result.get("status") == "empty" else found.areas()
    places = {name: found.place(name) for name in [*result.get("outputs", {}).values(), "result.json"]}
    if as_json:
        rows = [asdict(row) for row in areas]
        _print({"run_id": found.run_id, "result": result, "areas": rows, "places": places, "advice": advice, "url": found.url})
    else:
        show_result(found, result, areas, places, advice)


def _find(client: Client, run_id: str | None) -> Run:
    if run_id:
        return client.run(run_id)
    latest = client.runs(limit=1)
    if not latest:
        _fail("there is no run yet; start one with `earthself run`", 69)
    return latest[0]


def _print(content: Any) -> None:  # noqa: ANN401 - text, or what JSON takes
    sys.stdout.write((content if isinstance(content, str) else json.dumps(content, indent=1, default=str)) + "\n")


def _note(line: str) -> None:
    sys.stderr.write(line + "\n")


def _fail(message: str, code: int) -> NoReturn:
    _note(f"error: {message}")
    sys.exit(code)


if __name__ == "__main__":
    main()
