"""The tasks of `land_cover_map` that only decide: is the request sound, what will it cost, who signs which products."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException
from earthself.operators.base import EarthSelfOperator
from earthself.operators.resources import workers
from earthself.operators.staging import Waiting, staged

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import Context
    from earthself.data.workspace import RunFolder

MAX_BATCHES = 200
"""Far below Airflow's `max_map_length` (1024), and few enough for its scheduler."""
MAX_BATCH = 10
"""Products that one killed batch can cost while there are few."""


class EstimateOperator(EarthSelfOperator):
    """Check a request, say what it will cost, and refuse it when it is too large; returns the estimate as a dict.

    Writes `work/request.json`: the conf with its defaults filled in and the area as GeoJSON; `work/estimate.json`; `work/model.json`.
    """

    ui_color = "#fff2cc"

    def __init__(self, *, eodag_conn_id: str = "eodag_default", **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.eodag_conn_id = eodag_conn_id

    def work(self, context: Context) -> dict[str, Any]:
        """Validate the run's params, count the products, estimate, refuse."""
        from earthself.data.workspace import write_json
        from earthself.hooks.eodag import EodagHook
        from earthself.operators import estimate, request
        from earthself.operators.identity import signature_identity

        self.forget_what_follows(context)
        conf = request.validated(dict(context["params"]))
        with ThreadPoolExecutor(1) as pool, EodagHook(self.eodag_conn_id).sources() as sources:
            asked = pool.submit(signature_identity, str(conf["model"]))  # a process of its own, while the provider is asked
            found = estimate.estimate(conf, sources)
        estimate.refuse_too_many(found, int(conf["max_products"]))
        identity = asked.result()
        run = self.run_folder(context)
        write_json(run.request, conf)
        write_json(run.work / "model.json", identity.to_dict())
        write_json(run.work / "estimate.json", {**found.to_dict(), "work": asdict(found.work)})
        for warning in found.warnings:
            self.log.warning(warning)
        self.log.info(f"Estimate: {found}")
        self.log.info(f"Model {identity.model}, legend {identity.legend}")
        return found.to_dict()


class PlanBatchesOperator(EarthSelfOperator):
    """Cut the products that EarthSignature does not know into batches; returns a list of reference dicts to map over.

    Those among them that lie in a provider's archive, and are online nowhere else, are ordered first where `staging_hours` says so: the
    task is deferred until they are there. What is not there by then stays offline, is a warning of the run, and is lost to it.

    :param products: reference dict of the products found.
    :param known: reference dict of the signatures known.
    :param staging_hours: how long to wait for products that lie in an archive; 0 does not order any.
    :param poll: time between two questions to the provider.
    """

    template_fields: Sequence[str] = ("products", "known", "staging_hours")
    ui_color = "#fff2cc"

    def __init__(
        self,
        *,
        products: Any,  # noqa: ANN401
        known: Any = None,  # noqa: ANN401
        staging_hours: float | str = 0,
        poll: timedelta = timedelta(minutes=5),
        eodag_conn_id: str = "eodag_default",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.products = products
        self.known = known
        self.staging_hours = staging_hours
        self.poll = poll
        self.eodag_conn_id = eodag_conn_id

    def work(self, context: Context) -> list[dict[str, Any]]:
        """Write `batches/NNNN/catalog.json` with links to the products' items; skips the rest when nothing was found."""
        self.forget_what_follows(context)
        return self._go_on(context, None)

    def resume(self, context: Context, event: dict[str, Any]) -> list[dict[str, Any]]:
        """Plan with what is online now; `event` is the trigger's."""
        self.log.info(f"{event['left']} products are still being staged")
        made: list[dict[str, Any]] = self.noted(context, lambda: self._go_on(context, event["given_up"]))
        return made

    def _go_on(self, context: Context, given_up: Mapping[str, str] | None) -> list[dict[str, Any]]:
        from earthself.data.reference import Reference
        from earthself.operators import catalogs

        found = Reference.from_dict(self.products)
        if found.count == 0:
            raise AirflowSkipException("no product matches the request")
        known = self._known_products()
        run = self.run_folder(context)
        paths = [path for path in catalogs.item_paths(found.path()) if path.stem not in known]
        paths = self._staged(run, paths, given_up)
        area = catalogs.area_beside(found.path())
        catalogs.empty_folder(run.batches)
        size = batch_size(len(paths), workers())
        # Without a batch Airflow would skip the mapped task, and with it everything that needs the signatures already known.
        batches = [paths[start : start + size] for start in range(0, len(paths), size)] or [[]]
        self.log.info(f"{found.count} products: {found.count - len(paths)} known, {len(paths)} to sign, at most {size} at a time")
        return [
            catalogs.link_catalog(run.batch(number).parent, f"batch {number}", batch, area).to_dict()
            for number, batch in enumerate(batches)
        ]

    def _staged(self, run: RunFolder, paths: list[Path], given_up: Mapping[str, str] | None) -> list[Path]:
        """Have products brought online that are so nowhere; gives the items to read in place of those found."""
        from earthself.data.finding import online
        from earthself.data.workspace import read_json
        from earthself.hooks.eodag import EodagHook
        from earthself.operators import catalogs, notes

        notes.leave(run, self.task_id, [])
        patience = timedelta(hours=float(self.staging_hours))
        offline = [item for item in map(read_json, paths) if not online(item)] if patience else []
        if not offline:
            return paths
        with EodagHook(self.eodag_conn_id).sources() as sources:
            archived = [item for item in offline if next(sources.elsewhere(item, []), None) is None]
        self.log.info(f"{len(offline)} products are offline where they were found, {len(archived)} of them online nowhere else")
        folder = run.work / "staged"
        items = staged(self, run, folder, archived, Waiting(self.eodag_conn_id, patience, self.poll), given_up)
        there = catalogs.write_catalog(catalogs.empty_folder(folder), "staged", [item for item in items if online(item)])
        instead = {path.stem: path for path in catalogs.item_paths(there.path())}
        return [instead.get(path.stem, path) for path in paths]

    def _known_products(self) -> set[str]:
        from earthself.data.reference import Reference
        from earthself.operators import catalogs, signatures

        if not isinstance(self.known, Mapping):
            return set()
        catalog = Reference.from_dict(dict(self.known)).path()
        return {catalogs.safe_name(str(item["properties"][signatures.FOUND_AS])) for item in catalogs.read_items(catalog)}


def batch_size(products: int, workers: int) -> int:
    """Choose how many products a batch has: all workers busy, at most `MAX_BATCH` products lost together, at most `MAX_BATCHES` batches.

    The last rule wins, so that 10,000 products make 200 batches of 50.
    """
    return max(1, min(math.ceil(products / workers), MAX_BATCH), math.ceil(products / MAX_BATCHES))
