"""The tasks of `benchmark_clouds`: plan which machines are measured, measure each with the probes as a step, keep the samples."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred
from earthself.operators import benchmark_account as account
from earthself.operators.base import EarthSelfOperator, map_index
from earthself.operators.errors import OperatorError
from earthself.operators.step import ProcessingStepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context
    from earthself.benchmark.offers.model import Offers
    from earthself.benchmark.planning import Candidate
    from earthself.benchmark.probing import Probe
    from earthself.benchmark.samples import Sample
    from earthself.benchmark.tables import Samples
    from earthself.data.workspace import RunFolder
    from earthself.operators.benchmark_order import Order, Spot

_POD_MINUTES = 3.0
"""Allowed for a pod to start on a node that has to fetch the image first; its deadline leaves the same again."""
_PROCESS_MINUTES = 0.1
"""Allowed for a process to start here."""
_PLACE = ("cloud", "region", "zone", "offer")
_PROBES = ("-m", "earthself.benchmark.step")
TARGET = "target"
"""Test of the sample that a target leaves which could not be measured at all."""


class PlanBenchmarkOperator(EarthSelfOperator):
    """Choose what a run measures within its budget; returns the arguments of a `MeasureTargetOperator` for each target.

    Reads the Airflow Variable `earthself_benchmark` and the run's params. What is left out stands in the run's result with the reason.
    """

    ui_color = "#fff2cc"

    def work(self, context: Context) -> list[dict[str, Any]]:
        """Plan; raises `BadRequest` for a Variable, a conf or a probe that cannot be used."""
        from earthself.benchmark import planning
        from earthself.benchmark.tables import Samples
        from earthself.operators.benchmark_order import read_order

        self.forget_what_follows(context)
        run = self.run_folder(context)
        account.forget_plan(run)
        order = read_order(dict(context["params"]))
        spots, unreachable = _reachable(order.spots)
        now = datetime.now(UTC)
        with Samples() as kept:
            newest = kept.newest()
            candidates = [_candidate(spot, order, kept, newest.get(tuple(spot.target.place.values()))) for spot in spots]
        made = planning.plan(candidates, _offers(spots, now), order.budget, now.date())
        made = planning.Plan(made.run, [*made.left_out, *unreachable])
        account.write_plan(run, made, asdict(order.budget))
        for one in made.left_out:
            self.log.warning(f"{one.target} is left out: {one.reason}")
        known = "" if all(one.hourly.euros is not None for one in made.run) else " for those whose price is known"
        self.log.info(f"{len(made.run)} targets, about {made.minutes:.1f} minutes and {made.euros:.2f} EUR{known}")
        by_target = {spot.target: spot for spot in spots}
        return [_arguments(by_target[one.target], order, one.limit) for one in made.run]


class MeasureTargetOperator(ProcessingStepOperator):
    """Run the probes as a step at one target of the plan; skips where the budget has no room for it any more.

    Maps over what `PlanBenchmarkOperator` returns, whose order is that of the plan.
    """

    ui_color = "#d9ead3"

    def __init__(self, *, command: Sequence[str] | None = None, eodag_conn_id: str | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(command=command or [sys.executable, *_PROBES], eodag_conn_id=eodag_conn_id, **kwargs)

    def work(self, context: Context) -> dict[str, Any]:
        """Measure, as long as the plan allows and the budget has left."""
        run, number, now = self.run_folder(context), map_index(context), time.time()
        plan = account.read_plan(run)
        planned = plan["run"][number]
        # The pod of a try whose worker died goes on, and its time with it; a process is gone.
        since = account.goes_on(run, number) if self.cloud else None
        if since is None:
            account.end(run, number, now)
        left = _left(run, plan, number if since is not None else None)
        if since is None:
            if reason := _exhausted(planned, left):
                account.skip(run, number, reason)
                raise AirflowSkipException(reason)
            account.begin(run, number, now)
        minutes = min(float(planned["limit"]), left.minutes)
        if self.cloud:
            # The pod's deadline and not its arguments: by these the next try knows the pod again.
            most = min(minutes + _POD_MINUTES, left.minutes) - (0.0 if since is None else (now - since) / 60)
            self.execution_timeout = timedelta(minutes=most)
        else:
            self.parameters = {**self.parameters, "minutes": round(minutes, 3)}
        return super().work(context)

    def noted(self, context: Context, work: Callable[[], Any]) -> Any:  # noqa: ANN401
        """Note the time when it has ended, too, which it has not where the triggerer waits on."""
        ended = True
        try:
            return super().noted(context, work)
        except TaskDeferred:
            ended = False
            raise
        finally:
            if ended:
                account.end(self.run_folder(context), map_index(context), time.time())


class KeepSamplesOperator(EarthSelfOperator):
    """Put the samples of all targets into the platform's database, and say in `result.json` what was measured; returns {status, href}.

    What could not be measured is kept as a failed sample. Use it with the trigger rule `all_done`.

    :param measure_task_id: the mapped `MeasureTargetOperator`.
    """

    ui_color = "#d0e0e3"

    def __init__(self, *, measure_task_id: str = "measure", **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.measure_task_id = measure_task_id

    def work(self, context: Context) -> dict[str, Any]:
        """Keep and tell; raises `OperatorError` where no target was measured though some were tried."""
        from earthself.benchmark.samples import write
        from earthself.benchmark.tables import Samples
        from earthself.data.workspace import write_json, write_text

        run = self.run_folder(context)
        plan = account.read_plan(run)
        told = [self._target(run, number, planned) for number, planned in enumerate(plan["run"])]
        samples = [sample for _, found in told for sample in found]
        with Samples() as kept:
            new = kept.add(samples)
        result = _result(run, plan, [document for document, _ in told], len(samples))
        write_text(run.path / "samples.ndjson", "".join(write(samples)))
        write_json(run.result, result)
        for warning in result["warnings"]:
            self.log.warning(warning)
        self.log.info(f"{result['status']}: {len(samples)} samples, {new} of them new, {result['minutes']:.1f} minutes: {run.path}")
        tried = [one for one in result["targets"] if one["status"] in ("measured", "failed")]
        if tried and not any(one["status"] == "measured" for one in tried):
            raise OperatorError(f"none of {len(tried)} targets could be measured; the first, {_name(tried[0])}: {tried[0]['reason']}")
        return {"status": result["status"], "href": str(run.result)}

    def _target(self, run: RunFolder, number: int, planned: Mapping[str, Any]) -> tuple[dict[str, Any], list[Sample]]:
        """Tell what became of a target, with its samples."""
        from earthself.benchmark.samples import FAILED
        from earthself.operators import accounts

        folder, used = run.step(self.measure_task_id, number), account.spent(run, number, planned)
        about = {name: planned[name] for name in ("connection", *_PLACE)} | {
            "status": "measured", "reason": "", "minutes": round(used.minutes, 3),
            "euros": None if planned["euros_per_hour"] is None else round(used.euros, 6), "price": planned["price"], "failed": [],
        }  # fmt: skip
        output = accounts.output(folder)
        if output is None and not (folder / "error.json").is_file() and (reason := account.skipped(run, number)):
            return about | {"status": "left out", "reason": reason}, []
        if output is None:
            reason = str(accounts.why_lost(run, self.measure_task_id, number)["error"])
            return about | {"status": "failed", "reason": reason}, [_lost(run, number, planned, reason)]
        ended = accounts.of_steps(run).get(folder.name, {})
        samples = list(_samples(output.parent, planned, str(ended.get("image") or "")))
        failed = [
            {"probe": one.test, "reason": one.labels["reason"], "error": one.labels["error"]} for one in samples if one.metric == FAILED
        ]
        said = dict(ended.get("document", {}))
        about |= {"samples": len(samples), "probes": sorted({one.test for one in samples}), "failed": failed}
        return about | {"message": str(said.get("message", ""))}, samples


def _reachable(spots: Sequence[Spot]) -> tuple[list[Spot], list[Any]]:
    """Give the spots with the labels that their connections know, and those that cannot be reached with the reason."""
    from earthself.benchmark.planning import LeftOut
    from earthself.operators.benchmark_order import VARIABLE, named
    from earthself.operators.clouds import cloud_if_known

    found: list[Spot] = []
    lost: list[LeftOut] = []
    for spot in spots:
        name = spot.target.connection
        where = cloud_if_known(name) if name else None
        if name and where is None:
            lost.append(LeftOut(spot.target, f"there is no connection {name!r}; make it, or mend the Variable {VARIABLE}"))
        elif where is not None and not spot.image:
            lost.append(LeftOut(spot.target, f"no image with the probes is named for it; give the Variable {VARIABLE} `image`"))
        else:
            found.append(named(spot, where.provider, where.region) if where else spot)
    return found, lost


def _candidate(spot: Spot, order: Order, kept: Samples, last: float | None) -> Candidate:
    """Say how long a target takes, by its last run where there is one; `last` is when that was, seconds since 1970."""
    from earthself.benchmark import planning
    from earthself.benchmark.tables import Wanted

    at, pace = spot.target, None
    here = Wanted(cloud=at.cloud, region=at.region, zone=at.zone, offer=at.offer)
    if last is not None:
        since = datetime.fromtimestamp(last - 1, UTC)
        *_, newest = kept.find(replace(here, since=since))
        pace = planning.pace(kept.find(replace(here, run_uri=newest.run_uri)))
    minutes = planning.estimate(len(_probes(spot, order)), order.repeats, order.seconds, pace)
    return planning.Candidate(spot.target, minutes + (_POD_MINUTES if spot.target.connection else _PROCESS_MINUTES), last)


def _probes(spot: Spot, order: Order) -> list[Probe]:
    from earthself.benchmark.probes import probes
    from earthself.benchmark.probing import Setting

    found = probes(order.probes)
    setting = Setting(Path(), **spot.settings)
    return found if order.probes else [one for one in found if one.fits(setting)]


def _offers(spots: Sequence[Spot], now: datetime) -> Offers:
    """Give what the catalogue knows; what the operator says that a target costs counts before it."""
    from earthself.benchmark.offers.catalogue import Catalogue
    from earthself.benchmark.offers.model import Allocation, Price, Source
    from earthself.operators.benchmark_order import VARIABLE

    with Catalogue() as catalogue:
        known = catalogue.snapshot()
    said = Source(f"the Variable {VARIABLE}", "", now.date())
    own = {}
    for spot in spots:
        if spot.euros_per_hour is not None:
            at = spot.target
            price = Price(at.cloud, at.region, at.offer, Allocation.ON_DEMAND, spot.euros_per_hour, "EUR", said, zone=at.zone)
            own[at.cloud, at.region, at.offer, at.zone] = price
    others = [one for one in known.prices if (one.cloud.lower(), one.region, one.offer, one.zone) not in own]
    return replace(known, prices=[*own.values(), *others])


def _arguments(spot: Spot, order: Order, limit: float) -> dict[str, Any]:
    """Give what `MeasureTargetOperator` is to be made with."""
    from earthself.data.profiles import PROFILES_VARIABLE

    at = spot.target
    parameters: dict[str, Any] = {name: value for name, value in at.place.items() if value}
    parameters |= {"repeats": order.repeats, "seconds": order.seconds, **spot.settings}
    if order.probes:
        parameters["probes"] = ",".join(order.probes)
    made: dict[str, Any] = {
        "cloud": at.connection, "image": None, "runtime": "local", "parameters": parameters, "pod_template": {},
        "step_resources": dict(spot.resources), "eodag_conn_id": "eodag_default" if "provider" in spot.settings else None, "env": {},
    }  # fmt: skip
    if at.connection is None:
        # A step does not see the platform's own variables; this one holds no secrets, only where they are.
        profiles = os.environ.get(PROFILES_VARIABLE)
        return made | {"env": {PROFILES_VARIABLE: profiles} if profiles and "storage" in spot.settings else {}}
    parameters["minutes"] = round(limit - _POD_MINUTES, 3)
    return made | {"image": spot.image, "runtime": "pod", "pod_template": dict(spot.template)}


def _left(run: RunFolder, plan: Mapping[str, Any], but: int | None) -> account.Spent:
    """Tell what the budget has left, the target `but` not counted."""
    used = [account.spent(run, number, planned) for number, planned in enumerate(plan["run"]) if number != but]
    budget = plan["budget"]
    euros = float("inf") if budget["euros"] is None else budget["euros"] - sum(one.euros for one in used)
    return account.Spent(budget["minutes"] - sum(one.minutes for one in used), euros)


def _exhausted(planned: Mapping[str, Any], left: account.Spent) -> str:
    """Say why the budget has no room for a target any more, empty where it has."""
    minutes = float(planned["minutes"])
    cost = minutes / 60 * float(planned["euros_per_hour"] or 0.0)
    why = "others took longer than planned"
    if minutes > left.minutes + 1e-6:
        return f"it takes about {minutes:.3g} minutes, and {max(left.minutes, 0.0):.3g} of the budget are left: {why}"
    if cost > left.euros + 1e-9:
        return f"it costs about {cost:.2f} EUR, and {max(left.euros, 0.0):.2f} of the budget are left: {why}"
    return ""


def _samples(folder: Path, planned: Mapping[str, Any], image: str) -> Iterator[Sample]:
    """Read what a step left. Where it was, the plan knows; the image's digest, the node that ran it."""
    from earthself.benchmark.samples import read
    from earthself.benchmark.step import SAMPLES

    place = {name: planned[name] for name in _PLACE if planned[name]}
    with (folder / SAMPLES).open(encoding="utf-8") as lines:
        for sample in read(lines, SAMPLES):
            yield replace(sample, labels={**sample.labels, **place, **({"image": image} if image else {})})


def _lost(run: RunFolder, number: int, planned: Mapping[str, Any], reason: str) -> Sample:
    """Give the sample of a target that left none, the same one however often it is asked for."""
    from earthself.benchmark.samples import FAILED, Sample

    uri = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{run.dag_id}/{run.run_id}/{number}"))
    place = {name: planned[name] for name in _PLACE if planned[name]}
    labels = place | {"reason": "failed", "error": " ".join(reason.split())[:500]}
    return Sample(TARGET, FAILED, 1.0, "", labels, account.begun(run, number) or time.time(), uri, uri)


def _result(run: RunFolder, plan: Mapping[str, Any], targets: list[dict[str, Any]], samples: int) -> dict[str, Any]:
    """Write the result document: what was measured, what not and why, and what it took."""
    targets = [
        *targets,
        *({**one, "status": "left out", "minutes": 0.0, "euros": 0.0, "price": "", "failed": []} for one in plan["left_out"]),
    ]
    measured = [one for one in targets if one["status"] == "measured"]
    whole = len(measured) == len(targets) and not any(one["failed"] for one in measured)
    used = account.spent_by_all(run, plan)
    unpriced = [one for one in targets if one["euros"] is None]
    warnings = [f"{_name(one)} {one['status']}: {one['reason']}" for one in targets if one["reason"]]
    warnings += [f"{_name(one)} costs nobody knows what: {one['price']}" for one in unpriced if plan["budget"]["euros"] is not None]
    return {
        "status": "complete" if whole and measured else "partial" if measured else "empty",
        "run": {"dag_id": run.dag_id, "run_id": run.run_id},
        "targets": targets,
        "samples": samples,
        "minutes": round(used.minutes, 3),
        "euros": None if unpriced else round(used.euros, 6),
        "estimated": plan["estimated"],
        "budget": plan["budget"],
        "warnings": warnings,
        "outputs": {"samples": "samples.ndjson", "result": run.result.name},
    }


def _name(one: Mapping[str, Any]) -> str:
    words = [str(one[name]) for name in _PLACE if one[name]]
    return " ".join([*words, f"({one['connection']})" if one["connection"] else "(this machine)"])
