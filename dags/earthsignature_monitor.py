"""Keeps EarthSignature current over the areas of the Airflow Variable `earthself_monitor`.

It runs daily at 04:15 UTC and whenever a provider lists a product of an area that was not seen before: takes what waits, as much as
the budget allows, signs what EarthSignature does not know yet, stores it, and remembers what became of each product. Without areas it
does nothing.

Set the Variable (docs/monitoring.md has an example), then unpause the workflow: it is shipped paused, because it asks providers as
soon as it is not. `earthself why AREA TIME` says why something did not happen, `earthself status --freshness` how fresh the areas are,
`earthself status --outdated` which results were made from products that a provider has reprocessed since.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import (
    DAG,
    Asset,
    AssetOrTimeSchedule,
    AssetWatcher,
    AsyncCallback,
    CronTriggerTimetable,
    DeadlineAlert,
    DeadlineReference,
)
from earthself.operators import (
    EarthSignatureIngestOperator,
    EarthSignatureListOperator,
    NewProductsDoneOperator,
    NewProductsOperator,
    PlanBatchesOperator,
    ProcessingStepOperator,
    StepResources,
    workers,
)
from earthself.triggers import EODAGNewProductsTrigger
from earthself.triggers.alerts import run_is_late

SETTINGS = "earthself_monitor"
MODEL, MASK = (f"{{{{ ti.xcom_pull(task_ids='new', key='{name}') }}}}" for name in ("model", "mask"))

new_products = Asset(
    name="earthself_new_products",
    uri="earthself://new-products/earthself_monitor",
    watchers=[AssetWatcher(name="earthself_monitor", trigger=EODAGNewProductsTrigger(settings=SETTINGS))],
)

with DAG(
    dag_id="earthsignature_monitor",
    dag_display_name="EarthSignature monitor",
    description="Signs new products over configured areas and stores them in EarthSignature, daily and when they appear",
    doc_md=__doc__,
    # Zero, since Airflow takes False for "at once, if it is no more than a tenth of a day late", also when somebody unpauses it.
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("15 4 * * *", timezone="UTC", run_immediately=timedelta(0)), assets=new_products
    ),
    catchup=False,
    is_paused_upon_creation=True,
    tags=["earthself", "land cover"],
    max_active_runs=1,
    dagrun_timeout=timedelta(days=1),
    deadline=DeadlineAlert(
        name="run takes too long",
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(hours=6),
        callback=AsyncCallback(run_is_late, kwargs={"settings": SETTINGS}),
    ),
):
    new = NewProductsOperator(task_id="new", settings=SETTINGS)
    known = EarthSignatureListOperator(task_id="known", products=new.output, model=MODEL, mask=MASK)
    plan = PlanBatchesOperator(task_id="plan", products=new.output, known=known.output)
    sign = ProcessingStepOperator.partial(
        task_id="sign",
        step="sign",
        parameters={"mask": MASK, "model": MODEL},
        output="signed/{{ '%04d' % ti.map_index }}",
        resources=StepResources(cpu=1, memory="4Gi"),
        max_active_tis_per_dag=workers(),
    ).expand(inputs=plan.output)
    ingest = EarthSignatureIngestOperator(
        task_id="ingest", batches=plan.output, known=known.output, trigger_rule="all_done_min_one_success"
    )
    done = NewProductsDoneOperator(task_id="done", products=new.output, model=MODEL, mask=MASK, trigger_rule="all_done")

    sign >> ingest >> done
