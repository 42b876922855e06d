"""From an area of interest to a published land-cover map: search, look up, sign what is new, vote, measure, publish."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG
from earthself.operators import (
    EarthSignatureIngestOperator,
    EarthSignatureListOperator,
    EODAGSearchOperator,
    EstimateOperator,
    PlanBatchesOperator,
    ProcessingStepOperator,
    PublishOperator,
    StepResources,
    workers,
)
from earthself.operators.request import params

with DAG(
    dag_id="land_cover_map",
    dag_display_name="Land-cover map",
    description="Land cover of an area from Sentinel-2, with statistics, a picture and a report that says what it is worth",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    params=params(),
    tags=["earthself", "land cover"],
    max_active_runs=16,
    dagrun_timeout=timedelta(days=1),
):
    estimate = EstimateOperator(task_id="estimate")
    search = EODAGSearchOperator(
        task_id="search",
        area="{{ params.area | tojson }}",
        start="{{ params.start }}",
        end="{{ params.end }}",
        collection="{{ params.collection }}",
        provider="{{ params.provider or '' }}",
        max_cloud_cover="{{ params.max_cloud_cover }}",
        max_products="{{ params.max_products }}",
    )
    known = EarthSignatureListOperator(task_id="known", products=search.output, model="{{ params.model }}", mask="{{ params.mask }}")
    plan = PlanBatchesOperator(task_id="plan", products=search.output, known=known.output, staging_hours="{{ params.staging_hours }}")
    sign = ProcessingStepOperator.partial(
        task_id="sign",
        step="sign",
        parameters={"mask": "{{ params.mask }}", "model": "{{ params.model }}"},
        output="signed/{{ '%04d' % ti.map_index }}",
        resources=StepResources(cpu=1, memory="4Gi"),
        splittable=True,
        may_lose=True,
        max_active_tis_per_dag=workers(),
    ).expand(inputs=plan.output)
    ingest = EarthSignatureIngestOperator(
        task_id="ingest", batches=plan.output, known=known.output, trigger_rule="all_done_min_one_success"
    )
    mosaic = ProcessingStepOperator(task_id="mosaic", step="mosaic", inputs=ingest.output, eodag_conn_id=None)
    statistics = ProcessingStepOperator(
        task_id="zonal_statistics", step="zonal_statistics", inputs=mosaic.output, output="statistics", eodag_conn_id=None
    )
    quicklook = ProcessingStepOperator(
        task_id="quicklook",
        step="quicklook",
        inputs=mosaic.output,
        parameters={"title": "{{ params.title or 'Land cover' }}"},
        eodag_conn_id=None,
    )
    publish = PublishOperator(task_id="publish", trigger_rule="none_failed")

    estimate >> search
    sign >> ingest
    [plan, statistics, quicklook] >> publish
