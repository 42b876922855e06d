"""Results that were made from products which a provider has reprocessed since: flagged beside their files.

The files stay as they were published: the manifest holds their checksums.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from earthself.operators.signatures import baseline_number

if TYPE_CHECKING:
    from earthself.data.workspace import RunFolder, Workspace

_log = logging.getLogger(__name__)
FLAG = "earthself:outdated"
"""Marks the result's link in the catalogue of all results."""


def flag(workspace: Workspace, newer: Sequence[Mapping[str, Any]], now: datetime) -> list[str]:
    """Flag every published result with an input that one of these signatures (features) replaces; gives `dag_id/run_id` of each.

    Beside the result appears `outdated.json`: {since, products: [{product, baseline, observation, superseded_by, newer_baseline}], next}.
    """
    from earthself.data.workspace import write_json

    by_observation = {str(feature["properties"].get("earthself:observation")): feature for feature in newer}
    if not by_observation:
        return []
    flagged = []
    for run in _published(workspace):
        have = read(run) or {"since": _rfc3339(now), "products": []}
        known = {entry["product"]: entry for entry in have["products"]}
        found = {entry["product"]: entry for entry in _superseded(run, by_observation)}
        if all(known.get(product) == entry for product, entry in found.items()):
            continue
        next_step = "order the map again with the same request (parameters in manifest.json): the newer products are used then"
        write_json(run.outdated, {**have, "products": list((known | found).values()), "next": next_step})
        _mark(run)
        flagged.append(f"{run.dag_id}/{run.run_id}")
    return flagged


def read(run: RunFolder) -> dict[str, Any] | None:
    """Give what is said of a result, None while it is up to date."""
    from earthself.data.workspace import read_json

    return dict(read_json(run.outdated)) if run.outdated.is_file() else None


def listed(workspace: Workspace) -> list[dict[str, Any]]:
    """Give what is said of all results that are out of date, with `dag_id` and `run_id`, the latest flagged first."""
    found = [{"dag_id": run.dag_id, "run_id": run.run_id, **said} for run in _published(workspace) if (said := read(run))]
    return sorted(found, key=lambda entry: (str(entry["since"]), str(entry["run_id"])), reverse=True)


def _published(workspace: Workspace) -> list[RunFolder]:
    paths = sorted((workspace.root / "runs").glob("*/*/result.json"))
    return [workspace.run(path.parent.parent.name, path.parent.name) for path in paths]


def _superseded(run: RunFolder, newer: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give the inputs of a result of which there is a newer processing, each product once."""
    from earthself.data.errors import EarthSelfError
    from earthself.data.workspace import read_json

    try:
        inputs = read_json(run.manifest)["inputs"] if run.manifest.is_file() else []
    except (EarthSelfError, OSError, KeyError, TypeError) as error:
        # A damaged result of somebody else must not keep the flags from all others.
        _log.warning("%s cannot be read, so it is not known whether its result is out of date: %s", run.manifest, error)
        return []
    entries: dict[str, dict[str, Any]] = {}
    for each in inputs:
        feature = newer.get(str(each.get("observation")))
        if feature is None:
            continue
        properties = feature["properties"]
        if baseline_number(each.get("baseline")) >= baseline_number(properties.get("earthself:baseline")):
            continue
        entries[str(each["product"])] = {
            "product": str(each["product"]),
            "baseline": each.get("baseline"),
            "observation": str(each["observation"]),
            "superseded_by": str(properties.get("earthself:product") or feature["id"]),
            "newer_baseline": properties.get("earthself:baseline"),
        }
    return list(entries.values())


def _mark(run: RunFolder) -> None:
    """Mark the result's link in the catalogue of all results."""
    from earthself.data.results import changing_catalog, href

    with changing_catalog(run.workspace.catalog) as links:
        for link in links:
            if link["href"] == href(run):
                link[FLAG] = True


def _rfc3339(instant: datetime) -> str:
    from earthself.data.dates import format_instant

    return format_instant(instant.replace(microsecond=0))
