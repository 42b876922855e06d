"""The two ends of a workflow over new products: taking what waits, each product once, and remembering what became of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException
from earthself.operators.base import EarthSelfOperator
from earthself.operators.errors import AllLost, BadRequest, OperatorError

if TYPE_CHECKING:
    from airflow.sdk import Context
    from earthself.data.workspace import RunFolder
    from earthself.triggers.memory import Memory, Run
    from earthself.triggers.settings import MonitorSettings
    from earthself.triggers.watch import Watch

_LATE_ROUNDS = 2
"""Rounds of the triggerer without an answer after which the workflow looks for itself."""


class NewProductsOperator(EarthSelfOperator):
    """Take the products that wait for a watch, as many as the budget allows; returns the reference dict of their catalogue.

    Skips, and with it the run, when nothing waits. With `settings` it looks for itself first where the triggerer has not done so in time.
    Pushes `model` and `mask` of the settings as XComs of these names.

    :param settings: the Airflow Variable with areas and budget that an `EODAGNewProductsTrigger` watches (docs/monitoring.md).
    :param watch: instead, the name of the watch of a trigger with an area; it has no budget.
    :param output: folder below the run's `work` folder.
    """

    template_fields: Sequence[str] = ("settings", "watch", "output_folder")
    ui_color = "#cfe2f3"

    def __init__(
        self,
        *,
        settings: str | None = None,
        watch: str | None = None,
        output: str = "found",
        eodag_conn_id: str = "eodag_default",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self.watch = watch
        self.output_folder = output
        self.eodag_conn_id = eodag_conn_id

    def work(self, context: Context) -> dict[str, Any]:
        """Claim, write the catalogue with the watched areas beside it; raises `BadWatch` for settings that cannot be used."""
        from earthself.data.workspace import write_json
        from earthself.operators import catalogs
        from earthself.triggers.memory import Memory

        self.forget_what_follows(context)
        run = self.run_folder(context)
        settings = self._settings()
        names = [watch.name for watch in settings.watches] if self.settings else [str(self.watch)]
        if not names:
            raise AirflowSkipException(
                f"no areas are configured, so there is nothing to do; set the Airflow Variable {self.settings} (docs/monitoring.md)"
            )
        with Memory() as memory:
            self._look_where_late(settings.watches, memory)
            items = memory.claim(names, identity(run), settings.budget, datetime.now(UTC))
            areas = memory.areas(names)
        if not items:
            raise AirflowSkipException(f"no new product waits for {', '.join(names)}; `earthself why AREA TIME` says more")
        context["ti"].xcom_push("model", settings.model)
        context["ti"].xcom_push("mask", settings.mask)
        folder = catalogs.empty_folder(run.work / self.output_folder)
        write_json(folder / "superseded.json", [])
        reference = catalogs.write_catalog(folder, "new products", items, union(areas))
        self.log.info(f"{reference.count} new products for {', '.join(names)}")
        return reference.to_dict()

    def _settings(self) -> MonitorSettings:
        from earthself.triggers.memory import Budget
        from earthself.triggers.settings import MonitorSettings, read_settings

        if bool(self.settings) == bool(self.watch):
            raise BadRequest("NewProductsOperator takes either settings=… or watch=…, as the trigger that wakes the workflow does")
        return read_settings(self.settings) if self.settings else MonitorSettings(budget=Budget())

    def _look_where_late(self, watches: Sequence[Watch], memory: Memory) -> None:
        """Ask the providers for watches that the triggerer neglects, so that a day without it costs a day at most."""
        from earthself.hooks.eodag import EodagHook
        from earthself.triggers.looking import look, questions
        from earthself.triggers.rounds import SPACING

        now = datetime.now(UTC)
        answers = {watch.name: memory.watch(watch, now) for watch in watches}
        late = [watch for watch in watches if (last := answers[watch.name]) is None or now - last > _LATE_ROUNDS * watch.every]
        if not late:
            return
        with EodagHook(self.eodag_conn_id).sources() as sources:
            for number, together in enumerate(questions(late)):
                if number:
                    time.sleep(SPACING)
                done = look(together, sources, memory, datetime.now(UTC))
                names = ", ".join(watch.name for watch in together)
                if done.error:
                    self.log.warning(f"{done.provider} gave no answer for {names}: {done.error}")
                else:
                    self.log.info(f"{done.provider} lists {done.listed} products for {names}, {done.news} of them new")


class NewProductsDoneOperator(EarthSelfOperator):
    """Remember what became of the products that the run took, from what EarthSignature has; returns {stored, nothing, lost, replaced}.

    Products that were lost wait for the next run. Where a newer processing of an observation is stored, the older one is marked
    superseded in EarthSignature and the results that were made from it are flagged. Use it with the trigger rule `all_done`.

    :param products: reference dict that `NewProductsOperator` returned; None where that was skipped.
    """

    template_fields: Sequence[str] = ("products", "model", "mask")
    ui_color = "#d0e0e3"

    def __init__(
        self,
        *,
        products: Any,  # noqa: ANN401 - a dict or an XComArg
        model: str = "baseline",
        mask: str = "auto",
        earthsignature_conn_id: str = "earthsignature_default",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.products = products
        self.model = model
        self.mask = mask
        self.earthsignature_conn_id = earthsignature_conn_id

    def work(self, context: Context) -> dict[str, Any]:
        """Ask EarthSignature, remember, replace; raises `AllLost` when nothing at all was stored."""
        from earthself.hooks.earthsignature import EarthSignatureHook
        from earthself.operators import outdated, signatures
        from earthself.operators.earthsignature import candidates
        from earthself.triggers.memory import CLAIMED, Memory

        run = self.run_folder(context)
        if not isinstance(self.products, Mapping):
            _fail_with(context, self.upstream_task_ids)
            raise AirflowSkipException("no product was taken, so there is nothing to remember")
        with Memory() as memory, EarthSignatureHook(self.earthsignature_conn_id).client() as client:
            taken = self._items()
            features = candidates(client, taken)
            chosen = self._chosen(features, taken)
            held = {row.product for row in memory.of_run(identity(run)) if row.state == CLAIMED}
            account = _settle(memory, run, [name for item in taken if (name := str(item["id"])) in held], set(chosen))
            pairs = signatures.replaced(features, chosen.values())
            warnings = signatures.supersede(client, pairs)
        # Not only for pairs: a result may reach beyond the watched area, and the older signature may be stored no more.
        flagged = outdated.flag(run.workspace, list(chosen.values()), datetime.now(UTC))
        for warning in [*warnings, *account.said]:
            self.log.warning(warning)
        if flagged:
            self.log.warning(f"{len(flagged)} results were made from products that are superseded now: {', '.join(flagged)}")
        self.log.info(f"{account.stored} stored, {account.nothing} without a pixel in the area, {len(account.said)} lost")
        if account.said and not account.stored + account.nothing:
            raise AllLost(f"all {len(account.said)} products were lost; the first, {account.said[0]}")
        return {"stored": account.stored, "nothing": account.nothing, "lost": len(account.said), "replaced": len(pairs)}

    def _items(self) -> list[dict[str, Any]]:
        from earthself.data.reference import Reference
        from earthself.operators import catalogs

        return list(catalogs.read_items(Reference.from_dict(dict(self.products)).path()))

    def _chosen(self, features: list[dict[str, Any]], taken: list[dict[str, Any]]) -> dict[str, Mapping[str, Any]]:
        """Give by product the stored signature that stands for it: the rule by which later runs will reuse it."""
        import shapely.geometry
        from earthself.data.reference import Reference
        from earthself.operators import catalogs, signatures
        from earthself.operators.identity import signature_identity

        if not features:
            return {}
        area = catalogs.area_beside(Reference.from_dict(dict(self.products)).path())
        shape = shapely.geometry.shape(area) if area else None
        return signatures.reusable(features, taken, shape, signature_identity(self.model), self.mask)


@dataclass(frozen=True)
class _Account:
    """What became of a run's products."""

    stored: int
    """EarthSignature has them."""
    nothing: int
    """They have no pixel in the area."""
    said: tuple[str, ...]
    """`id: reason` of each lost one."""


def _settle(memory: Memory, run: RunFolder, taken: list[str], stored: set[str]) -> _Account:
    """Remember of each product whether it is stored, has nothing to store, or was lost."""
    from earthself.data.workspace import read_json

    mine, now = identity(run), datetime.now(UTC)
    signed = _signed(run)
    ended = run.signatures.is_file()
    path = run.signatures.parent / "failures.json"
    failures = {str(failure["id"]): failure for failure in (read_json(path) if path.is_file() else [])}
    nothing, said = 0, []
    for name in taken:
        if name in stored:
            memory.stored(mine, name, signed.get(name), now)
        elif name in failures:
            error = str(failures[name]["error"])
            memory.lost(mine, name, error, now, retry=bool(failures[name]["retry"]))
            said.append(f"{name}: {error}")
        elif ended and name not in signed:
            memory.nothing(mine, name, now)
            nothing += 1
        else:
            error = "EarthSignature did not store its signature" if name in signed else "the run ended before it was signed"
            memory.lost(mine, name, error, now)
            said.append(f"{name}: {error}")
    return _Account(len(taken) - nothing - len(said), nothing, tuple(said))


def _signed(run: RunFolder) -> dict[str, datetime | None]:
    """Give when the run signed each product; None for what it took from EarthSignature."""
    from earthself.data.workspace import read_json
    from earthself.operators import catalogs
    from earthself.operators.signatures import FOUND_AS, REUSED

    found: dict[str, datetime | None] = {}
    for path in catalogs.item_paths(run.signatures) if run.signatures.is_file() else []:
        item = read_json(path)
        properties = item["properties"]
        name = str(properties.get(FOUND_AS) or properties.get("earthself:product") or item["id"])
        found[name] = None if properties.get(REUSED) else datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return found


def _fail_with(context: Context, upstream: Iterable[str]) -> None:
    """Raise where a task before this one failed: the rule `all_done` would let the run end well."""
    ti = context["ti"]
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=sorted(upstream), run_ids=[ti.run_id]).get(ti.run_id, {})
    if failed := sorted(name for name, state in states.items() if state == "failed"):
        raise OperatorError(f"{', '.join(failed)} failed, so no product was taken; its log says why")


def identity(run: RunFolder) -> Run:
    """Name a run as it is remembered."""
    from earthself.triggers.memory import Run

    return Run(run.dag_id, run.run_id)


def union(areas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join areas (GeoJSON) into one."""
    import shapely
    from earthself.data.area import Area

    return Area(shapely.union_all([Area.from_conf(dict(area)).geometry for area in areas])).geojson
