"""How runs and results look on a terminal: tables where there is one, plain lines where the output goes into a file."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from earthself.client.estimate import Estimate
from earthself.client.results import ClassArea
from earthself.client.run import FINISHED, Progress, Run
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

_MARKS = {
    "success": ("done", "green"),
    "failed": ("failed", "red"),
    "skipped": ("skipped", "dim"),
    "running": ("running", "cyan"),
    "not started": ("not started", "dim"),
}

_FILES = {
    "report.html": "all of it on one page, for the browser",
    "quicklook.png": "the picture",
    "land_cover.tif": "the map: a COG with code, confidence, observations",
    "statistics.csv": "hectares per class",
    "statistics.parquet": "the same, typed",
    "item.json": "the map's STAC item",
    "manifest.json": "what it was made from and with",
    "result.json": "how it went, for programs",
}
"""Files of a result in the order in which a person wants them."""


class Follower:
    """Shows the progress of a run's tasks on standard error: a live table on a terminal, else one line per task that ends."""

    def __init__(self, run: Run) -> None:
        """Follow this run."""
        self._run = run
        self._estimated = False
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=4) if self._console.is_terminal else None
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, tasks: list[Progress]) -> None:
        """Take the tasks as `Run.wait` hands them over."""
        if not self._estimated and (estimate := self._run.estimate()):
            self._estimated = True
            self._console.print(f"estimate: {estimate}", markup=False, soft_wrap=True)
        if self._live:
            self._live.update(_task_table(tasks))
            return
        for task in tasks:
            if task.state in {"success", "failed", "skipped"} and task.task not in self._told:
                self._told.add(task.task)
                self._console.print(_line(task))
        if untried := [task.task for task in tasks if task.state == "not started" and task.task not in self._told]:
            self._told.update(untried)
            self._console.print(f"  not started: {', '.join(untried)}", markup=False, soft_wrap=True)

    def note(self, line: str) -> None:
        """Show a line between those of the tasks."""
        self._console.print(line, markup=False, soft_wrap=True)


def show_tasks(run: Run, state: str, tasks: list[Progress], reason: str) -> None:
    """Print how each task of a run stands."""
    console = Console(highlight=False)
    console.print(f"{run.run_id}: {state}", markup=False)
    console.print(_task_table(tasks, idle="not started" if state in FINISHED else "waiting"))
    if reason:
        console.print(Text(reason, "red"))
    console.print(run.url, markup=False, soft_wrap=True)


def show_estimate(estimate: Estimate, advice: list[str]) -> None:
    """Print what a run would cost, or why there is nothing to run."""
    console = Console(highlight=False)
    console.print(str(estimate), markup=False, soft_wrap=True)
    console.print(estimate.basis, markup=False, soft_wrap=True)
    for warning in estimate.warnings:
        console.print(Text(f"warning: {warning}", "yellow"))
    for sentence in advice:
        console.print(Text(sentence, "bold"), soft_wrap=True)


def show_result(run: Run, result: dict[str, Any], areas: list[ClassArea], places: dict[str, str], advice: list[str]) -> None:
    """Print the result of a finished run: table of areas, warnings, files, where the time went."""
    console = Console(highlight=False)
    products = result.get("products") or {}
    failed = products.get("failed") or []
    counts = ", ".join(f"{products[name]} {name}" for name in ("found", "reused", "processed") if name in products)
    console.print(f"\n{result.get('status')}: products {counts}{f', {len(failed)} failed' if failed else ''}", markup=False)
    if result.get("area_km2") is not None:
        level = result.get("validated_level")
        validated = f"; classes are validated at CORINE level {level}" if level else ""
        console.print(f"{result['area_km2']:.2f} km2, {result.get('observed_fraction', 0):.1%} of it observed{validated}", markup=False)
    if areas:
        console.print(_area_table(areas))
    for loss in failed:
        console.print(Text(f"failed: {loss.get('id')}: {loss.get('error')}", "red"))
    for warning in result.get("warnings") or []:
        console.print(Text(f"warning: {warning}", "yellow"), soft_wrap=True)
    for sentence in advice:
        console.print(Text(sentence, "bold"), soft_wrap=True)
    _show_files(console, places)
    console.print(f"the run in the browser: {run.url}", markup=False, soft_wrap=True)
    if took := result.get("took"):
        spent = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in sorted(took.items(), key=lambda part: -part[1]))
        console.print(f"time: {spent}", markup=False, soft_wrap=True)
    if (read := result.get("bytes_read")) is not None:
        console.print(f"read: {read / 1e6:.1f} MB", markup=False)


def _show_files(console: Console, places: dict[str, str]) -> None:
    """Print where the files of a result are, the ones for people first; a folder's path only once."""
    order = list(_FILES)
    names = sorted(places, key=lambda name: order.index(name) if name in order else len(order))
    folders = {place.rpartition("/")[0] for place in places.values()}
    console.print(f"\nfiles in {next(iter(folders))}/" if len(folders) == 1 else "\nfiles", markup=False, soft_wrap=True)
    for name in names:
        shown = name if len(folders) == 1 else places[name]
        console.print(f"  {shown:<20}{_FILES.get(name, '')}", markup=False, soft_wrap=True)


def _task_table(tasks: list[Progress], idle: str = "waiting") -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for task in tasks:
        text, style = _MARKS.get(task.state, (idle, "dim"))
        batches = f"{task.done}/{task.total}" if task.total > 1 else ""
        table.add_row(task.task, Text(text, style), batches, f"{task.seconds:.1f} s" if task.seconds else "")
    return table


def _line(task: Progress) -> Text:
    text, style = _MARKS[task.state]
    return Text.assemble(f"  {task.task:<18}", (f"{text:<9}", style), f"{task.seconds:6.1f} s")


def _area_table(areas: list[ClassArea]) -> Table:
    estimated = any(row.hectares_low is not None for row in areas)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("code", justify="right")
    table.add_column("class")
    table.add_column("hectares", justify="right")
    table.add_column("share", justify="right")
    if estimated:
        table.add_column("95 % interval", justify="right")
    for row in areas:
        interval = [f"{row.hectares_low:,.1f} - {row.hectares_high:,.1f}" if row.hectares_low is not None else ""] if estimated else []
        table.add_row(str(row.code), row.name, f"{row.hectares:,.1f}", f"{row.share:.1%}", *interval)
    total = sum(row.hectares for row in areas)
    table.add_row("", "total", f"{total:,.1f}", "100.0%", *([""] if estimated else []), style="bold")
    return table
