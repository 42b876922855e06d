"""`earthself replay MANIFEST`: make a run's map again from nothing but what its manifest names, and say whether it is the same.

Nothing is reused, stored or published: products are read from their providers into a fresh workspace and go through the same steps as
processes of their own. The inputs are looked at first: pixels that are gone or have changed cannot give the same map, and say nothing
about the code.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from earthself.data.errors import DataError, EarthSelfError, TryAgain
from earthself.data.manifest import changed_outputs, read_manifest
from earthself.data.workspace import read_json, write_json
from earthself.processing import comparing
from earthself.processing.comparing import Difference
from earthself.processing.errors import BadInput, ProcessingError

if TYPE_CHECKING:
    from earthself.data.sources import Sources

EQUAL, DIFFERENT, INPUTS = 0, 1, 2
_BAD_USAGE = 65
_PAIRS = {
    "land_cover.tif": ("mosaic", comparing.rasters),
    "statistics.csv": ("statistics", comparing.tables),
    "statistics.parquet": ("statistics", comparing.tables),
    "quicklook.png": ("quicklook", comparing.pictures),
}
"""Files of a result: the folder of the new one, and how to compare."""


@dataclass
class Outcome:
    """What a replay found."""

    differences: list[Difference] = field(default_factory=list)
    """Where the new result is not the old one."""
    inputs: list[str] = field(default_factory=list)
    """Inputs that are gone or have changed, one sentence each."""
    compared: list[str] = field(default_factory=list)
    """What was compared."""

    @property
    def exit_code(self) -> int:
        """0 equal, 1 different, 2 inputs gone or changed."""
        return INPUTS if self.inputs else DIFFERENT if self.differences else EQUAL

    def to_dict(self) -> dict[str, Any]:
        """Plain types for `--json`."""
        status = {EQUAL: "equal", DIFFERENT: "different", INPUTS: "inputs"}[self.exit_code]
        differences = [{"where": each.where, "what": each.what} for each in self.differences]
        return {"status": status, "compared": self.compared, "differences": differences, "inputs": self.inputs}


def main(argv: list[str]) -> int:
    """Command line of `earthself replay`; returns 0 equal, 1 different, 2 inputs gone or changed, 65 when MANIFEST is none."""
    parser = _Parser(
        prog="earthself replay",
        description="Make a run's map again from its manifest, without reuse, and compare.",
        epilog="Exit codes: 0 the same, 1 different (places are listed), 2 inputs gone or changed, 65 no manifest or bad usage.",
    )
    parser.add_argument("manifest", type=Path, help="manifest.json of a run, or the run's folder")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the new result in this empty folder instead of removing it")
    parser.add_argument("--json", action="store_true", help="the outcome as JSON on standard output")
    try:
        options = parser.parse_args(argv)
        manifest = options.manifest / "manifest.json" if options.manifest.is_dir() else options.manifest
        if options.keep and options.keep.exists() and any(options.keep.iterdir()):
            raise BadInput(f"{options.keep} is not empty; name a new folder")
        outcome = replay(manifest, options.keep)
    except EarthSelfError as error:
        sys.stderr.write(f"error: {error}\n")
        return DIFFERENT if isinstance(error, _StepEnded) else _BAD_USAGE
    sys.stdout.write(json.dumps(outcome.to_dict(), indent=1) + "\n" if options.json else _text(outcome))
    return outcome.exit_code


def replay(manifest: Path, keep: Path | None = None) -> Outcome:
    """Replay a run; `keep` is the folder of the new result, None a temporary one.

    Raises `BadInput` or `NotThere` for a manifest that cannot be used, `ProcessingError` when a step fails.
    """
    document = read_manifest(manifest)
    if not document["inputs"]:
        raise BadInput(f"{manifest} names no inputs: the run found nothing, so there is nothing to make again")
    products = product_items(document, manifest.parent)
    _say(f"looking at {len(document['inputs'])} inputs of {len(products)} products")
    if problems := list(check_inputs(document, products)):
        return Outcome(inputs=problems)
    workspace = keep or Path(tempfile.mkdtemp(prefix="earthself-replay-"))
    try:
        made = _run(document, products, workspace)
        return compare(manifest, document, made)
    finally:
        if keep is None:
            shutil.rmtree(workspace, ignore_errors=True)


def product_items(document: Mapping[str, Any], run: Path) -> dict[str, dict[str, Any]]:
    """Give the STAC items of the products that the manifest names, by id.

    They come from the run's own search result where that is still there, otherwise they are put together from the manifest, which
    names all that reading needs.
    """
    wanted = {str(each["product"]) for each in document["inputs"]}
    found = {item["id"]: item for item in _found(run / "work" / "found" / "catalog.json") if item["id"] in wanted}
    return {name: found.get(name) or _rebuilt(name, document) for name in sorted(wanted)}


def _found(catalog: Path) -> Iterator[dict[str, Any]]:
    if catalog.is_file():
        for link in read_json(catalog).get("links", []):
            path = catalog.parent / str(link["href"])
            if link["rel"] == "item" and path.is_file():
                yield read_json(path)


def _rebuilt(name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    inputs = [each for each in document["inputs"] if each["product"] == name]
    properties = {f"earthself:{key}": inputs[0].get(key) for key in ("observation", "baseline", "provider")}
    properties["earthself:collection"] = document["parameters"].get("collection")
    stamp = str(properties["earthself:observation"] or "").split("_")
    when = next((part for part in stamp if len(part) == 15 and part[8] == "T"), None)
    if when is None:
        raise BadInput(f"product {name}: neither the run's search result nor its observation key says when it was sensed")
    properties["datetime"] = f"{when[:4]}-{when[4:6]}-{when[6:8]}T{when[9:11]}:{when[11:13]}:{when[13:15]}Z"
    assets = {each["asset"]: {"href": each["href"]} for each in inputs}
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": name, "geometry": None, "properties": properties, "links": [], "assets": assets,
    }  # fmt: skip


def check_inputs(document: Mapping[str, Any], products: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """Read the pixels that the manifest names and hold their hashes against it; yields a sentence for each that differs."""
    from earthself.data.sources import SourceConfig, Sources
    from earthself.processing.raster import gdal

    away: set[str] = set()
    with Sources(SourceConfig.from_env()) as sources, gdal():
        for each in document["inputs"]:
            provider = str(each.get("provider"))
            if provider in away:
                continue
            try:
                found = _hash(sources, products[each["product"]], each)
            except TryAgain as error:
                away.add(provider)  # each further input would take all attempts again
                yield f"{each['asset']} of {each['product']} and what else is of {provider} cannot be read now: {error}"
                continue
            except (DataError, ValueError) as error:
                yield f"{each['asset']} of {each['product']} cannot be read any more: {error}"
                continue
            if found != each["sha256"]:
                now, then = found[:12], each["sha256"][:12]
                yield f"{each['asset']} of {each['product']} has changed since the run: its pixels hash to {now}, not {then}"


def _hash(sources: Sources, product: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    from earthself.processing.hashing import PixelHash, strips

    found = PixelHash()
    with sources.open_band(product, entry["asset"]) as reader:
        for _, pixels in strips(reader, *(entry.get("window") or (0, 0, reader.shape[1], reader.shape[0]))):
            found.update(pixels)
    return found.hexdigest()


def _run(document: Mapping[str, Any], products: Mapping[str, dict[str, Any]], workspace: Path) -> Path:
    """Run the workflow's steps on the products, each in a process of its own; returns the workspace."""
    parameters = document["parameters"]
    found = workspace / "found"
    links = []
    for number, item in enumerate(products.values()):
        write_json(found / f"{number:05d}.json", item)
        links.append({"rel": "item", "href": f"./{number:05d}.json"})
    write_json(found / "catalog.json", {"type": "Catalog", "stac_version": "1.1.0", "id": "found", "description": "-", "links": links})
    _write_area(parameters.get("area"), found)
    _step("sign", found, workspace / "signatures", {"model": parameters.get("model"), "mask": parameters.get("mask")})
    if failures := read_json(workspace / "signatures" / "failures.json"):
        raise _StepEnded(f"{len(failures)} products could not be signed again, the first, {failures[0]['id']}: {failures[0]['error']}")
    for step, source, output, given in (
        ("mosaic", "signatures", "mosaic", {}),
        ("zonal_statistics", "mosaic", "statistics", {}),
        ("quicklook", "mosaic", "quicklook", {"title": parameters.get("title")}),
    ):
        _write_area(parameters.get("area"), workspace / source)
        _step(step, workspace / source, workspace / output, given)
    return workspace


def _write_area(value: Any, folder: Path) -> None:  # noqa: ANN401 (as in a request)
    from earthself.data.area import Area

    if value is not None and not (folder / "area.geojson").exists():
        write_json(folder / "area.geojson", Area.from_conf(value).geojson)


def _step(name: str, source: Path, output: Path, parameters: Mapping[str, Any]) -> None:
    words = [sys.executable, "-m", "earthself.processing", name, "--input", str(source), "--output", str(output), "--json"]
    for key, value in parameters.items():
        if value:
            words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    _say(f"running {name}")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("EARTHSELF_STEP_")}
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode:
        try:
            reason = json.loads(done.stdout)["message"]
        except (ValueError, KeyError):
            reason = "it said nothing"
        raise _StepEnded(f"the step {name} ended with {done.returncode}: {reason}")


def compare(manifest: Path, document: Mapping[str, Any], made: Path) -> Outcome:
    """Compare a run's published files with what was made again in the workspace `made`."""
    outcome, folder = Outcome(), manifest.parent
    named = {str(each["name"]): str(each["href"]) for each in document["outputs"]}
    for name in changed_outputs(document, folder):
        outcome.differences.append(Difference(named.get(name, name), "is gone, or no longer the file that the manifest names"))
    outcome.differences += _identity(document, made)
    for name, (place, how) in _PAIRS.items():
        old, new = folder / name, made / place / name
        if old.is_file() and new.is_file():
            outcome.compared.append(name)
            outcome.differences += how(old, new)
        elif old.is_file() != new.is_file():
            outcome.differences.append(Difference(name, "was made then and not now" if old.is_file() else "was not made then, and is now"))
    item = next(iter(sorted((made / "mosaic").glob("*/*.json"))), None)
    if item is not None and (folder / "item.json").is_file():
        outcome.compared.append("item.json")
        outcome.differences += _described(read_json(folder / "item.json"), read_json(item))
        if (folder / "result.json").is_file():
            outcome.compared.append("result.json")
            outcome.differences += _result(folder, document, read_json(item), made / "statistics" / "statistics.csv")
    if not outcome.compared:
        outcome.differences.append(Difference(str(folder), "holds none of the files that a map leaves; keep the manifest beside them"))
    return outcome


def _described(old: Mapping[str, Any], new: dict[str, Any]) -> Iterator[Difference]:
    """Compare the map's item; its id is the run's when it was published, and the new one's is the step's."""
    yield from comparing.documents(old, new | {"id": old.get("id")}, "item.json")


def _identity(document: Mapping[str, Any], made: Path) -> Iterator[Difference]:
    """Say whether model, legend and preprocessing are those of the run."""
    from earthself.processing.models import load_card

    signatures = [read_json(path)["properties"] for path in sorted((made / "signatures").glob("*/*.json"))]
    model = document.get("model") or {}
    for name, wanted in (("model", model.get("id")), ("legend", document.get("legend")), ("preprocessing", document.get("preprocessing"))):
        found = ", ".join(sorted({str(each[f"earthself:{name}"]) for each in signatures}))
        if signatures and wanted and found != wanted:
            yield Difference(name, f"was {wanted}, is {found}")
    if model.get("sha256") and signatures:
        found = dict(load_card(str(document["parameters"].get("model"))).document["file"])["sha256"]
        if found != model["sha256"]:
            yield Difference(f"model {model['id']}", f"its file had SHA-256 {model['sha256'][:12]}, has {found[:12]}")


def _result(folder: Path, document: Mapping[str, Any], item: Mapping[str, Any], statistics: Path) -> Iterator[Difference]:
    """Compare what the run's account says of the map with the map that was made again."""
    import pandas as pd

    old, properties = read_json(folder / "result.json"), item["properties"]
    shares = pd.read_csv(statistics).set_index("code")["share"]
    new = {
        "status": "partial" if (old.get("products") or {}).get("failed") else "complete",
        "observed_fraction": round(min(1.0, max(0.0, 1 - float(shares.get(-1, 0.0)))), 6),
        "validated_level": properties.get("earthself:validated_level"),
        "legend": document.get("legend"),
        "model": (document.get("model") or {}).get("id"),
        "masks": list(properties.get("earthself:masks", ())),
    }
    yield from comparing.values({key: old.get(key) for key in new}, new, "result.json")


class _StepEnded(ProcessingError):
    """A step that went well in the run does not now."""


class _Parser(argparse.ArgumentParser):
    """Code 2 means that inputs are gone: what is wrong with the command itself ends with another one."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; see earthself replay --help")


def _say(text: str) -> None:
    sys.stderr.write(f"replay: {text}\n")
    sys.stderr.flush()


def _text(outcome: Outcome) -> str:
    if outcome.inputs:
        lines = ["The inputs are not what they were; nothing was made again:", *(f"  {each}" for each in outcome.inputs)]
    elif outcome.differences:
        lines = ["Different:", *(f"  {each}" for each in outcome.differences)]
    else:
        lines = [f"The same: {', '.join(outcome.compared)}"]
    return "\n".join(lines) + "\n"
