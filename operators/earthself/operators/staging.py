"""Products that lie in a provider's archive: ordered, and waited for without a worker."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.operators.base import EarthSelfOperator

if TYPE_CHECKING:
    from airflow.sdk import Context
    from earthself.data.workspace import RunFolder


class StageProductsOperator(EarthSelfOperator):
    """Have offline products brought online; returns the reference dict of a catalogue of all products, with the addresses to read them at.

    The task is deferred while the provider works. What is not there in time, or cannot be staged, stays offline in the catalogue and is
    a warning of the run: a step reads it from another provider, or loses it.

    :param products: reference dict of a catalogue of products.
    :param patience: how long to wait at most.
    :param poll: time between two questions to the provider.
    :param output: folder below the run's `work` folder.
    """

    template_fields: Sequence[str] = ("products", "output_folder")
    ui_color = "#cfe2f3"

    def __init__(
        self,
        *,
        products: Any,  # noqa: ANN401 - a dict or an XComArg
        patience: timedelta = timedelta(hours=24),
        poll: timedelta = timedelta(minutes=5),
        output: str = "staged",
        eodag_conn_id: str = "eodag_default",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.products = products
        self.patience = patience
        self.poll = poll
        self.output_folder = output
        self.eodag_conn_id = eodag_conn_id

    def work(self, context: Context) -> dict[str, Any]:
        """Order what is offline; leaves `pending.json` in the output folder while it waits."""
        return self._go_on(context, None)

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Gather what is online now; `event` is the trigger's."""
        self.log.info(f"{event['left']} products are still being staged")
        made: dict[str, Any] = self.noted(context, lambda: self._go_on(context, event["given_up"]))
        return made

    def _go_on(self, context: Context, given_up: Mapping[str, str] | None) -> dict[str, Any]:
        """Order and wait, or where `given_up` says what became of the waiting, gather."""
        from earthself.data.reference import Reference
        from earthself.operators import catalogs

        source = Reference.from_dict(self.products).path()
        run = self.run_folder(context)
        folder = run.work / self.output_folder
        waiting = Waiting(self.eodag_conn_id, self.patience, self.poll)
        items = staged(self, run, folder, list(catalogs.read_items(source)), waiting, given_up)
        return catalogs.write_catalog(catalogs.empty_folder(folder), "staged", items, catalogs.area_beside(source)).to_dict()


@dataclass(frozen=True)
class Waiting:
    """How products are waited for that a provider stages."""

    eodag_conn_id: str
    """Connection with the provider settings."""
    patience: timedelta
    """How long to wait at most."""
    poll: timedelta
    """Time between two questions to the provider."""


def staged(  # noqa: PLR0917 - the task, its folders, its products, and how to wait
    task: EarthSelfOperator,
    run: RunFolder,
    folder: Path,
    items: list[dict[str, Any]],
    waiting: Waiting,
    given_up: Mapping[str, str] | None,
) -> list[dict[str, Any]]:
    """Order what is offline and defer the task, which goes on with `resume`; `pending.json` in the folder is what the trigger waits for.

    Where `given_up` says what became of the waiting, gives the items as they are now and leaves what was lost as notes of the run.
    """
    from earthself.data.workspace import write_json
    from earthself.hooks.eodag import EodagHook
    from earthself.operators import catalogs, notes
    from earthself.triggers.staging import StagingTrigger

    with EodagHook(waiting.eodag_conn_id).sources() as sources:
        items, pending, warnings = _staged(sources, items, given_up or {})
    if pending and given_up is None:
        path = write_json(catalogs.empty_folder(folder) / "pending.json", pending)
        task.log.info(f"{len(pending)} of {len(items)} products are being staged; waiting without a worker, for {waiting.patience} at most")
        until, poll = time.time() + waiting.patience.total_seconds(), waiting.poll.total_seconds()
        task.defer(trigger=StagingTrigger(str(path), waiting.eodag_conn_id, until, poll), method_name="resume")
    warnings += [f"{item['id']} was not staged within {waiting.patience}; it stays offline" for item in pending]
    notes.leave(run, task.task_id, warnings)
    for warning in warnings:
        task.log.warning(warning)
    return items


def _staged(
    sources: Any,  # noqa: ANN401 - `Sources`, imported late
    items: list[dict[str, Any]],
    given_up: Mapping[str, str],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Order what is offline: gives the items as they are now, those that are worth waiting for, and what went wrong with others."""
    from earthself.data.broker import BrokerRefused
    from earthself.data.errors import EarthSelfError

    now: list[dict[str, Any]] = []
    pending: list[dict[str, Any]] = []
    warnings: list[str] = []
    for item in items:
        if why := given_up.get(str(item["id"])):
            now.append(item)
            warnings.append(f"{item['id']} cannot be staged: {why}")
            continue
        try:
            staging = sources.stage(item)
        except BrokerRefused:
            raise  # it will do so for the others, too
        except EarthSelfError as error:
            now.append(item)
            if error.retry:
                pending.append(item)
            else:
                warnings.append(f"{item['id']} cannot be staged: {error}")
            continue
        now.append(staging.item)
        if not staging.online:
            pending.append(staging.item)
    return now, pending, warnings
