"""How answers about the watched areas look on a terminal: why something did not happen, how fresh they are, what is out of date."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def show_why(found: dict[str, Any]) -> None:
    """Print what became of the products of a watched area, one line each."""
    console = Console(highlight=False)
    watches = ", ".join(found["watches"]) or "nobody"
    console.print(f"{found['start']} to {found['end']}, watched by {watches}", markup=False, soft_wrap=True)
    for reason in found["reasons"]:
        style = {"stored": "green", "failed": "red", "provider down": "red", "no watch": "yellow"}.get(reason["verdict"], "bold")
        what = " ".join(filter(None, [reason["product"], reason["acquired"]]))
        console.print(Text.assemble((f"{reason['verdict']:<17}", style), f"{what}: " if what else "", reason["text"]), soft_wrap=True)
    if not found["reasons"]:
        console.print("nothing is known about that time", markup=False)


def show_freshness(found: dict[str, Any]) -> None:
    """Print a row for each watched area, and whose fault it is where one is not as fresh as promised."""
    console = Console(highlight=False)
    if not found["areas"]:
        console.print("nothing is watched; set the Airflow Variable earthself_monitor and unpause earthsignature_monitor", markup=False)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("area", min_width=max(len(area["watch"]) for area in found["areas"]))
    table.add_column("goal")
    for name in ("in time", "of", "pending", "median"):
        table.add_column(name, justify="right")
    for area in found["areas"]:
        goal = f"{area['goal']['share']:.0%} in {area['goal']['hours']:g} h" if area["goal"] else "none"
        share = "" if area["share"] is None else f"{area['share']:.0%}"
        style = {True: "green", False: "red", None: ""}[area["met"]]
        median = "" if area["median_hours"] is None else f"{area['median_hours']:.1f} h"
        table.add_row(area["watch"], goal, Text(share, style), str(area["acquisitions"]), str(area["pending"]), median)
    console.print(table)
    for area in found["areas"]:
        if blind := area.get("blind"):
            hint = {"nobody asked": "; does Airflow's triggerer run, and is the workflow not paused?"}.get(blind["cause"], "")
            text = f"nothing is known of {area['watch']} since {blind['since'][:16]}: {blind['cause']}{hint}"
            console.print(Text(text, "red"), soft_wrap=True)
        if area["causes"]:
            causes = ", ".join(f"{cause} {count}" for cause, count in area["causes"].items())
            console.print(f"late in {area['watch']}: {causes}", markup=False, soft_wrap=True)
    for alert in found["alerts"]:
        if alert["ended"] is None:
            console.print(Text(f"since {alert['first'][:16]}: {alert['text']}", "red"), soft_wrap=True)


def show_outdated(found: list[dict[str, Any]]) -> None:
    """Print the results that are out of date, with the products that were reprocessed."""
    console = Console(highlight=False)
    if not found:
        console.print("no result is out of date", markup=False)
    for result in found:
        console.print(Text(f"{result['dag_id']} {result['run_id']}, out of date since {result['since'][:10]}", "bold"), soft_wrap=True)
        for entry in result["products"]:
            new = f"{entry['superseded_by']} ({entry['newer_baseline']})"
            console.print(f"  {entry['product']} ({entry['baseline']}) is superseded by {new}", markup=False, soft_wrap=True)
    if found:
        console.print(found[0]["next"], markup=False, soft_wrap=True)
