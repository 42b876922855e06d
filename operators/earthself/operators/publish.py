"""The last task: everything that a run leaves for people and programs, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.operators.base import EarthSelfOperator
from earthself.operators.errors import OperatorError
from earthself.operators.links import ItemLink, MapLink, QuicklookLink, ReportLink

if TYPE_CHECKING:
    from airflow.sdk import Context
    from earthself.data.workspace import RunFolder
    from earthself.operators.facts import Facts
    from earthself.operators.times import Spent

_TYPES = {
    "statistics": ("application/vnd.apache.parquet", ["data"], "Hectares per class"),
    "statistics_csv": ("text/csv", ["data"], "Hectares per class (CSV)"),
    "quicklook": ("image/png", ["overview", "thumbnail"], "Picture of the map"),
    "report": ("text/html", ["metadata"], "Report"),
    "manifest": ("application/json", ["metadata"], "Manifest: what the map was made from"),
}


def published(run: RunFolder) -> dict[str, str]:
    """Name the files that are published, in the order in which they appear; `result.json` comes last and says that all is there."""
    paths = {
        "land_cover": run.land_cover,
        "statistics": run.statistics_parquet,
        "statistics_csv": run.statistics_csv,
        "quicklook": run.quicklook,
        "item": run.item,
        "report": run.report,
        "manifest": run.manifest,
        "result": run.result,
    }
    return {name: path.name for name, path in paths.items()}


class PublishOperator(EarthSelfOperator):
    """Put the result folder of a land-cover map together and enter it into the catalogue of all results.

    Reads what the tasks before it left in the run's folder. An empty run gets a report and `result.json` only.
    Returns {status, href of result.json}.
    """

    operator_extra_links = (ReportLink(), MapLink(), QuicklookLink(), ItemLink())
    ui_color = "#d0e0e3"

    def work(self, context: Context) -> dict[str, Any]:
        """Publish; raises where a document of the run is missing."""
        from earthself.operators import counting, facts, times

        own_begin = time.time()
        run = self.run_folder(context)
        known = facts.gather(run)
        result = publish(known, times.attempt(context, own_begin), own_begin, self.task_id)
        for warning in known.warnings:
            self.log.warning(warning)
        self._remember(known, result)
        size = sum((run.path / name).stat().st_size for name in published(run).values() if (run.path / name).is_file())
        counting.published(run.dag_id, size, self.log)
        self.log.info(f"{result['status']}: {run.path}")
        return {"status": result["status"], "href": str(run.result)}

    def _remember(self, known: Facts, result: Mapping[str, Any]) -> None:
        """Keep what the run took in the history that estimates are made of, once; a lost row is no reason to fail.

        A run of which some task's time is not known teaches nothing: it would look quicker than it was.
        """
        from earthself.data.workspace import read_json
        from earthself.operators.history import RUN, History, Record

        processed = known.number("processed")
        if not processed or self.get_flat_relative_ids(upstream=True) - set(result["took"]):
            return
        run = known.run
        cpu = sum(phases["cpu"] for phases in known.phases.values())
        guess = [round(1e6 * read_json(run.work / "estimate.json")["work"][name]) for name in ("megapixels", "area_megapixels")]
        record = Record(RUN, "", run.dag_id, run.run_id, processed, known.pixels, known.bytes_read, result["seconds"], cpu, 0, *guess)
        try:
            with History() as history:
                history.replace(record)
        except OperatorError as error:
            self.log.warning(f"not remembered for later estimates: {error}")


def publish(known: Facts, attempt: float, own_begin: float, task_id: str = "publish") -> dict[str, Any]:
    """Make all documents beside their place, move them in, and enter the item into the catalogue; returns the result document.

    `attempt` and `own_begin` are when the run was started (again) and this task began, in seconds since 1970.
    """
    from earthself.data.workspace import write_json
    from earthself.operators import report, times

    run, files = known.run, published(known.run)
    with _staged(run) as folder:
        if known.land_cover is not None:
            _copy_rasters_and_tables(run, folder)
        result = _result(known, times.spent(run, attempt, time.time(), task_id, own_begin))
        (folder / files["report"]).write_text(report.html(known, result, folder), encoding="utf-8")
        if known.land_cover is not None:
            write_json(folder / files["item"], _item(known, known.land_cover, folder))
        _write_manifest(known, result, folder)
        result = {**result, "outputs": {name: file for name, file in files.items() if (folder / file).is_file()}}
        check_result(result)
        write_json(folder / files["result"], result)
    _enter(run, known.land_cover is not None)
    return result


@contextmanager
def _staged(run: RunFolder) -> Iterator[Path]:
    """Give a folder whose files take their places at the end; when the block fails, the run's folder stays as it was.

    While files are exchanged there is no `result.json`, and nothing counts as published without it.
    """
    folder = run.path / ".publish"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
        run.result.unlink(missing_ok=True)
        run.outdated.unlink(missing_ok=True)
        for name in published(run).values():
            if (folder / name).exists():
                _sync(folder / name)
                (folder / name).replace(run.path / name)
            else:
                (run.path / name).unlink(missing_ok=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy_rasters_and_tables(run: RunFolder, folder: Path) -> None:
    files = published(run)
    for step, name in (
        ("mosaic", "land_cover"),
        ("statistics", "statistics"),
        ("statistics", "statistics_csv"),
        ("quicklook", "quicklook"),
    ):
        source, target = run.output(step) / files[name], folder / files[name]
        try:
            os.link(source, target)
        except FileNotFoundError:
            raise OperatorError(f"{source} does not exist; clear the task that makes it, then this one") from None
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source, target)


def _result(known: Facts, spent: Spent) -> dict[str, Any]:
    return {
        "status": known.status,
        "title": known.request.get("title"),
        "run": {"dag_id": known.run.dag_id, "run_id": known.run.run_id},
        "products": {
            "found": len(known.products),
            "reused": known.number("reused"),
            "processed": known.number("processed"),
            "untouched": known.number("untouched"),
            "superseded": len(known.superseded),
            "failed": [{"id": f["id"], "error": f["error"], "retry": f["retry"]} for f in known.failures],
        },
        "area_km2": round(known.area_km2, 6),
        "observed_fraction": round(known.observed_fraction, 6),
        "validated_level": known.validated_level,
        "legend": known.legend,
        "model": ", ".join(known.models) or None,
        "masks": list(known.masks),
        "warnings": list(known.warnings),
        "outputs": {},
        "took": spent.took,
        "seconds": spent.seconds,
        "phases": {name: dict(values) for name, values in known.phases.items()},
        "bytes_read": known.bytes_read,
    }


def _item(known: Facts, land_cover: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Describe the result as a STAC item whose assets lie beside it."""
    from earthself.operators import catalogs

    run, files = known.run, published(known.run)
    assets = {"land_cover": {**land_cover["assets"]["land_cover"], "href": f"./{files['land_cover']}"}}
    for name, (kind, roles, title) in _TYPES.items():
        assets[name] = {"href": f"./{files[name]}", "type": kind, "roles": roles, "title": title}
        if (folder / files[name]).is_file():
            assets[name]["file:size"] = (folder / files[name]).stat().st_size
    start, end = known.request["start"], known.request["end"]
    properties = {
        **land_cover["properties"],
        "title": known.request.get("title") or f"Land cover, {start} to {end}",
        "created": _rfc3339(time.time()),
        "earthself:status": known.status,
        "earthself:observed_fraction": round(known.observed_fraction, 6),
        "earthself:area_km2": round(known.area_km2, 6),
        "earthself:warnings": list(known.warnings),
        "earthself:run": {"dag_id": run.dag_id, "run_id": run.run_id},
    }
    links = [
        {"rel": rel, "href": os.path.relpath(run.workspace.catalog, run.path), "type": "application/json"} for rel in ("root", "parent")
    ]
    extension = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
    return {
        **land_cover,
        "id": catalogs.result_id(run.dag_id, run.run_id),
        "stac_extensions": sorted({*land_cover.get("stac_extensions", ()), extension}),
        "properties": properties,
        "links": links,
        "assets": assets,
    }


def _write_manifest(known: Facts, result: Mapping[str, Any], folder: Path) -> None:
    from earthself.data.manifest import Manifest, OutputFile, inputs_of

    files = published(known.run)
    made = [name for name in files if name not in ("manifest", "result") and (folder / files[name]).is_file()]
    preprocessings = sorted({str(item["properties"].get("earthself:preprocessing")) for item in known.signatures})
    Manifest(
        dag_id=known.run.dag_id,
        run_id=known.run.run_id,
        created=datetime.now(UTC),
        parameters=known.request,
        legend=known.legend,
        model=result["model"],
        model_sha256=dict(known.model_card.get("file") or {}).get("sha256") if known.models else None,
        preprocessing=", ".join(preprocessings) or None,
        inputs=inputs_of(known.signatures),
        outputs=tuple(OutputFile.of(name, folder / files[name], folder) for name in made),
        durations=result["took"],
        bytes_moved=known.bytes_read + known.bytes_staged,
        title=known.request.get("title"),
        superseded=known.superseded,
        warnings=known.warnings,
        images=known.images,
    ).write(folder / files["manifest"])


def check_result(document: Any) -> None:  # noqa: ANN401 - whatever a file held
    """Raise `OperatorError` for a document that is no result, naming the place and what is wrong there."""
    import jsonschema

    schema = json.loads(Path(__file__).with_name("schemas").joinpath("result.schema.json").read_bytes())
    error = next(iter(jsonschema.Draft202012Validator(schema).iter_errors(document)), None)
    if error is not None:
        where = "/".join(str(part) for part in error.absolute_path) or "document"
        raise OperatorError(f"this is no result document: {where}: {error.message[:300]}")


def _enter(run: RunFolder, there: bool) -> None:
    """List the run's item in the catalogue of all results (or no longer)."""
    from earthself.data.results import changing_catalog, href
    from earthself.data.workspace import read_json

    with changing_catalog(run.workspace.catalog) as links:
        links[:] = [link for link in links if link["href"] != href(run)]
        if there:
            title = read_json(run.item)["properties"]["title"]
            links.append({"rel": "item", "href": href(run), "type": "application/geo+json", "title": title})


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
