"""Finding and fetching products: the catalogues of the providers as tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from earthself.operators.base import EarthSelfOperator
from earthself.operators.errors import BadRequest

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import Context


class EODAGSearchOperator(EarthSelfOperator):
    """Search products and leave them as a catalogue; returns its reference dict (count 0 when nothing was found).

    :param area: `[west, south, east, north]`, GeoJSON, or either of them as JSON text.
    :param start: RFC 3339 date or time; with `end` the period `[start, end)`.
    :param provider: EODAG provider; empty or None takes the order of the connection with fallback.
    :param max_products: more than these are refused.
    :param output: folder below the run's `work` folder.
    """

    template_fields: Sequence[str] = ("area", "start", "end", "collection", "provider", "max_cloud_cover", "max_products", "output_folder")
    template_fields_renderers = {"area": "json"}  # noqa: RUF012 - Airflow's own way
    ui_color = "#cfe2f3"

    def __init__(
        self,
        *,
        area: Any,  # noqa: ANN401 - a list, GeoJSON, or text
        start: str,
        end: str,
        collection: str = "S2_MSI_L2A",
        provider: str | None = None,
        max_cloud_cover: float | str | None = 60,
        max_products: int | str | None = None,
        output: str = "found",
        eodag_conn_id: str = "eodag_default",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.area = area
        self.start = start
        self.end = end
        self.collection = collection
        self.provider = provider
        self.max_cloud_cover = max_cloud_cover
        self.max_products = max_products
        self.output_folder = output
        self.eodag_conn_id = eodag_conn_id

    def work(self, context: Context) -> dict[str, Any]:
        """Search, write `catalog.json`, `area.geojson`, `superseded.json` and `search.json` into the output folder."""
        from earthself.data.workspace import write_json
        from earthself.hooks.eodag import EodagHook
        from earthself.operators import catalogs

        self.forget_what_follows(context)
        limit = as_count(self.max_products, "max_products")
        request = search_request(
            {
                "area": self.area,
                "start": self.start,
                "end": self.end,
                "collection": self.collection,
                "provider": self.provider,
                "max_cloud_cover": self.max_cloud_cover,
            },
            limit=None if limit is None else limit + 1,
        )
        with EodagHook(self.eodag_conn_id).sources() as sources:
            found = sources.search(request)
        if limit is not None and len(found.items) > limit:
            raise BadRequest(
                f"more than {limit} products match; raise max_products, or choose a smaller area, a shorter period or fewer clouds"
            )
        for warning in found.warnings:
            self.log.warning(warning)
        folder = catalogs.empty_folder(self.run_folder(context).work / self.output_folder)
        write_json(folder / "superseded.json", found.superseded)
        write_json(folder / "search.json", {"provider": found.provider, "number_matched": found.number_matched, "warnings": found.warnings})
        reference = catalogs.write_catalog(folder, "products", found.items, request.area.geojson)
        self.log.info(f"{reference.count} products from {found.provider}, {len(found.superseded)} superseded")
        return reference.to_dict()


class EODAGDownloadOperator(EarthSelfOperator):
    """Download products whole into the workspace's `downloads`; returns the reference dict of a catalogue with local assets.

    A product whose provider fails is taken from the next one that has the observation, which is a warning of the run.
    Steps read only the windows that they need by themselves; this is for programs that want whole files.

    :param products: reference dict of a catalogue of products.
    :param bands: asset keys to fetch; None fetches all.
    """

    template_fields: Sequence[str] = ("products", "bands", "output_folder")
    ui_color = "#cfe2f3"

    def __init__(
        self,
        *,
        products: Any,  # noqa: ANN401 - a dict or an XComArg
        bands: Sequence[str] | None = None,
        output: str = "downloaded",
        eodag_conn_id: str = "eodag_default",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.products = products
        self.bands = bands
        self.output_folder = output
        self.eodag_conn_id = eodag_conn_id

    def work(self, context: Context) -> dict[str, Any]:
        """Download what is not there yet; one lost product fails the task, what is whole stays for the next attempt."""
        from earthself.data.reference import Reference
        from earthself.hooks.eodag import EodagHook
        from earthself.operators import catalogs, notes

        source = Reference.from_dict(self.products).path()
        run = self.run_folder(context)
        local: list[dict[str, Any]] = []
        warnings: list[str] = []
        with EodagHook(self.eodag_conn_id).sources() as sources:

            def fetch(item: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Path]]:
                return item, sources.download(item, run.workspace.downloads, self.bands)

            for item in catalogs.read_items(source):
                found, files = sources.anywhere(item, fetch)
                assets = {band: {**found["assets"].get(band, {}), "href": str(path)} for band, path in files.items()}
                local.append({**found, "assets": assets})
                self.log.info(f"{item['id']}: {len(files)} files")
                warnings += [
                    f"{item['id']} was taken from {found['properties']['earthself:provider']} as {found['id']}: {left['error']}"
                    for left in found["properties"].get("earthself:instead_of", ())
                ]
        notes.leave(run, self.task_id, warnings)
        for warning in warnings:
            self.log.warning(warning)
        folder = catalogs.empty_folder(run.work / self.output_folder)
        return catalogs.write_catalog(folder, "downloads", local, catalogs.area_beside(source)).to_dict()


def search_request(conf: Mapping[str, Any], limit: int | None = None) -> Any:  # noqa: ANN401 - SearchRequest, imported late
    """Read the search part of a request whose values may have become text by templating; raises `BadInput`."""
    from earthself.data.query import SearchRequest

    return SearchRequest.from_conf(
        {**conf, "area": as_area(conf.get("area")), "max_cloud_cover": as_number(conf.get("max_cloud_cover"), "max_cloud_cover")},
        limit=limit,
    )


def as_area(value: Any) -> Any:  # noqa: ANN401 - what a user typed
    """Read JSON text or `west,south,east,north` where the area is a text."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        if text.startswith(("{", "[")):
            return json.loads(text)
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise BadRequest(f"area {text[:80]!r} cannot be read ({error}); give [west, south, east, north] or GeoJSON") from error


def as_number(value: Any, what: str) -> float | None:  # noqa: ANN401
    """Read a number that templating has made a text; empty means None."""
    if value in (None, "", "None"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise BadRequest(f"{what} {value!r} is not a number") from None


def as_count(value: Any, what: str) -> int | None:  # noqa: ANN401
    """Read a whole number from 1 that templating has made a text (`5.0` is 5); empty means None."""
    number = as_number(value, what)
    if number is not None and not (number >= 1 and number.is_integer()):
        raise BadRequest(f"{what} {value!r} is not a whole number from 1")
    return None if number is None else int(number)
