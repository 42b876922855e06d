"""What a run of `land_cover_map` found out, gathered from the documents that its tasks left."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from earthself.data.area import Area
    from earthself.data.workspace import RunFolder

NO_CLASS, UNOBSERVED = 0, -1
_MUCH_WITHOUT_CLASS = 0.01
_MOST_SITES = 5
"""Sites of the training that a warning names; of more it says how many."""


@dataclass(frozen=True)
class Row:
    """One row of the statistics."""

    code: int
    """CORINE code; 0 is observed without a class, -1 unobserved."""
    name: str
    """Name in the legend."""
    hectares: float
    """Mapped, or estimated where there is an interval."""
    share: float
    """Of the area, 0 to 1."""
    low: float | None = None
    """Lower end of the 95 % interval of an estimate, hectares."""
    high: float | None = None
    """Upper end of the 95 % interval of an estimate, hectares."""


@dataclass(frozen=True)
class Product:
    """One product that was found, and what became of it."""

    id: str
    """Its id."""
    observed: str
    """When it was sensed, RFC 3339."""
    cloud_cover: float | None
    """Percent, as the provider says."""
    baseline: str | None
    """Processing baseline."""
    provider: str
    """EODAG provider."""
    fate: str
    """`processed`, `reused`, `lost`, or `untouched` (no pixel in the area)."""
    mask: str = ""
    """How clouds were found."""
    clear: float | None = None
    """Share of clear pixels, 0 to 1."""


@dataclass(frozen=True)
class Facts:
    """Everything that the result's documents say."""

    run: RunFolder
    """Where it lies."""
    request: Mapping[str, Any]
    """The validated conf."""
    model_card: Mapping[str, Any]
    """The model's card, as JSON; empty where unknown."""
    products: tuple[Product, ...]
    """All that were found, newest first."""
    superseded: tuple[str, ...]
    """Ids of older copies."""
    failures: tuple[Mapping[str, Any], ...]
    """{id, error, retry} of each lost product."""
    signatures: tuple[Mapping[str, Any], ...]
    """Signature items that the map was made of."""
    land_cover: Mapping[str, Any] | None
    """Item of the map, None where there is none."""
    rows: tuple[Row, ...]
    """Statistics."""
    area_km2: float
    """Geodesic size of the area."""
    warnings: tuple[str, ...]
    """What a reader must know, most important first."""
    phases: Mapping[str, Mapping[str, float]]
    """Seconds by step and by what it says it did."""
    bytes_read: int
    """From providers."""
    bytes_staged: int
    """To and from the storages of clouds that do not share the workspace."""
    pixels: int
    """10 m pixels signed in this run."""
    images: Mapping[str, str]
    """Image with digest by step, of those that ran in pods."""

    @property
    def status(self) -> str:
        """`complete`, `partial` (products were lost) or `empty` (no map)."""
        if self.land_cover is None:
            return "empty"
        return "partial" if self.failures else "complete"

    @property
    def observed_fraction(self) -> float:
        """Share of the area with at least one clear observation."""
        unseen = [row.share for row in self.rows if row.code == UNOBSERVED]
        return min(1.0, max(0.0, 1 - unseen[0])) if unseen else 0.0

    @property
    def validated_level(self) -> int | None:
        """CORINE level at which the codes are validated."""
        return None if self.land_cover is None else int(self.land_cover["properties"]["earthself:validated_level"])

    @property
    def legend(self) -> str | None:
        """Legend of the codes."""
        return None if self.land_cover is None else str(self.land_cover["properties"]["earthself:legend"])

    @property
    def models(self) -> tuple[str, ...]:
        """`name:version` of the models that the map was made with."""
        return () if self.land_cover is None else tuple(self.land_cover["properties"].get("earthself:models", ()))

    @property
    def masks(self) -> tuple[str, ...]:
        """How clouds were found."""
        return () if self.land_cover is None else tuple(self.land_cover["properties"].get("earthself:masks", ()))

    def number(self, fate: str) -> int:
        """Count the products with that fate."""
        return sum(product.fate == fate for product in self.products)


def gather(run: RunFolder) -> Facts:
    """Read what the tasks left; raises `NotThere` or `BadInput` where a document that must be there is not."""
    from earthself.data.area import Area
    from earthself.data.workspace import read_json
    from earthself.operators import accounts, catalogs

    request = read_json(run.request)
    found = list(catalogs.read_items(run.found))
    signatures = list(catalogs.read_items(run.signatures)) if found and run.signatures.is_file() else []
    failures = _optional(run.signatures.parent / "failures.json", []) if found else []
    steps = accounts.of_steps(run)
    maps = list(catalogs.read_items(run.output("mosaic") / catalogs.CATALOG)) if signatures and _made(run, "mosaic") else []
    rows = _rows(run.output("statistics") / "statistics.csv") if maps else ()
    area, card = Area.from_conf(request["area"]), _optional(run.work / "model.json", {}).get("card", {})
    products = _products(found, signatures, failures)
    return Facts(
        run=run,
        request=request,
        model_card=card,
        products=products,
        superseded=tuple(str(item["id"]) for item in _optional(run.superseded, [])),
        failures=tuple(failures),
        signatures=tuple(signatures),
        land_cover=maps[0] if maps else None,
        rows=rows,
        area_km2=area.geodesic_m2 / 1e6,
        warnings=(*_warnings(run, steps, failures, maps, rows), *_mixed(signatures), *(_flattered(area, card) if maps else ())),
        phases=_phases(steps),
        bytes_read=int(_total(steps, "bytes_read")),
        bytes_staged=sum(int(step["moved"]["sent"]) + int(step["moved"]["fetched"]) for step in steps.values() if "moved" in step),
        pixels=int(_total(steps, "pixels", only="sign")),
        images={str(step["step"]): str(step["image"]) for step in steps.values() if step.get("image")},
    )


def _made(run: RunFolder, name: str) -> bool:
    return (run.output(name) / "catalog.json").is_file()


def _optional(path: Path, default: Any) -> Any:  # noqa: ANN401 - a JSON value
    from earthself.data.workspace import read_json

    return read_json(path) if path.is_file() else default


def _rows(path: Path) -> tuple[Row, ...]:
    def number(text: str | None) -> float | None:
        return float(text) if text else None

    with path.open(encoding="utf-8", newline="") as file:
        return tuple(
            Row(
                int(row["code"]),
                row["name"],
                float(row["hectares"]),
                float(row["share"]),
                number(row.get("hectares_low")),
                number(row.get("hectares_high")),
            )
            for row in csv.DictReader(file)
        )


def _products(found: list[dict[str, Any]], signatures: list[dict[str, Any]], failures: list[dict[str, Any]]) -> tuple[Product, ...]:
    from earthself.operators.signatures import FOUND_AS, REUSED

    made = {str(s["properties"].get(FOUND_AS) or s["properties"].get("earthself:product") or s["id"]): s["properties"] for s in signatures}
    lost = {str(failure["id"]) for failure in failures}
    products = []
    for item in found:
        name, have = str(item["id"]), item["properties"]
        signature = made.get(name)
        fate = "lost" if name in lost else "untouched"
        if signature is not None:
            fate = "reused" if signature.get(REUSED) else "processed"
        products.append(
            Product(
                name,
                str(have.get("datetime") or have.get("start_datetime") or ""),
                have.get("eo:cloud_cover"),
                have.get("earthself:baseline"),
                str(have.get("earthself:provider") or ""),
                fate,
                str((signature or {}).get("earthself:mask") or ""),
                (signature or {}).get("earthself:clear_fraction"),
            )
        )
    return tuple(products)


def _warnings(
    run: RunFolder, steps: Mapping[str, Any], failures: list[dict[str, Any]], maps: list[dict[str, Any]], rows: tuple[Row, ...]
) -> list[str]:
    from earthself.operators import notes

    said = [f"product {failure['id']} was lost: {failure['error']}" for failure in failures]
    seen = 1 - sum(row.share for row in rows if row.code == UNOBSERVED)
    for row in sorted(rows, key=lambda row: row.code):
        if row.code == UNOBSERVED and row.hectares > 0:
            said.append(f"{max(row.share, 0.001):.1%} of the area was not observed (clouds, shadows, or no product)")
        if row.code == NO_CLASS and seen > 0 and row.share / seen > _MUCH_WITHOUT_CLASS:
            said.append(f"{row.share / seen:.1%} of what was observed got no class: it is unlike what the model was trained on, or unsure")
    said += [str(warning) for item in maps for warning in item["properties"].get("earthself:warnings", ())]
    said += [str(warning) for warning in _optional(run.found.parent / "search.json", {}).get("warnings", ())]
    said += notes.collect(run)
    said += [str(warning) for account in steps.values() for warning in account["document"].get("warnings", ())]
    return list(dict.fromkeys(said))


def _mixed(signatures: list[dict[str, Any]]) -> list[str]:
    """Say that the baselines are mixed where no batch could see it: each knows its own products only."""
    baselines = sorted({str(item["properties"].get("earthself:baseline") or "unknown") for item in signatures})
    return [f"the map is made of products of the baselines {', '.join(baselines)}"] if len(baselines) > 1 else []


def _flattered(area: Area, card: Mapping[str, Any]) -> list[str]:
    """Say that the map meets places that its model was trained on, where the card tells their bounds."""
    from earthself.data.area import Area

    bounds = card.get("training", {}).get("bounds", {})
    met = sorted(site for site, edges in bounds.items() if Area.from_conf(edges).geometry.intersects(area.geometry))
    if not met:
        return []
    more = [f"{len(met) - _MOST_SITES} more"] if len(met) > _MOST_SITES else []
    named = ", ".join(met[:_MOST_SITES] + more)
    said = f"the model was trained on part of this area ({named}): the map is better here than elsewhere"
    return [f"{said}; its scores on left-out sites tell what to expect"]


def _phases(steps: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    phases: dict[str, dict[str, float]] = {}
    for account in steps.values():
        own = phases.setdefault(str(account["step"]), {})
        for name, value in account["document"].get("metrics", {}).items():
            if name.startswith("seconds_"):
                own[name.removeprefix("seconds_")] = round(own.get(name.removeprefix("seconds_"), 0.0) + float(value), 3)
        own["process"] = round(own.get("process", 0.0) + float(account["seconds"]), 3)
        own["cpu"] = round(own.get("cpu", 0.0) + float(account["cpu_seconds"]), 3)
    return phases


def _total(steps: Mapping[str, Any], metric: str, only: str | None = None) -> float:
    chosen = [account for account in steps.values() if only is None or account["step"] == only]
    return sum(float(account["document"].get("metrics", {}).get(metric, 0)) for account in chosen)
