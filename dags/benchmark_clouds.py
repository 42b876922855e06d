"""Measures clouds and their machines with the probes, each target as a step in a pod of its cloud, within a budget of time and money.

It runs on Saturdays at 02:00 UTC, and on demand. What there is to measure, the Airflow Variable `earthself_benchmark` says
(docs/benchmarking.md has an example); without it, this machine. Targets that were measured least recently come first, one after the
other, so that over several runs all get their turn. The samples go to the platform's database, where `earthself-suggest` finds them.

It is shipped paused, because it uses machines that cost money as soon as it is not.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable
from earthself.operators import KeepSamplesOperator, MeasureTargetOperator, PlanBenchmarkOperator
from earthself.operators.benchmark_order import params

with DAG(
    dag_id="benchmark_clouds",
    dag_display_name="Benchmark of clouds",
    description="Measures clouds and their machines, within a budget, and keeps what was measured",
    doc_md=__doc__,
    # Zero: nothing at once when somebody unpauses it.
    schedule=CronTriggerTimetable("0 2 * * 6", timezone="UTC", run_immediately=timedelta(0)),
    catchup=False,
    is_paused_upon_creation=True,
    params=params(),
    tags=["earthself", "suggest"],
    max_active_runs=1,
    dagrun_timeout=timedelta(days=1),
):
    plan = PlanBenchmarkOperator(task_id="plan")
    measure = MeasureTargetOperator.partial(
        task_id="measure",
        map_index_template="{{ task.cloud or 'this machine' }} {{ task.parameters.get('offer', '') }}",
        max_active_tis_per_dagrun=1,  # two on one machine would measure each other, and the budget is known before each
    ).expand_kwargs(plan.output)
    keep = KeepSamplesOperator(task_id="keep", trigger_rule="all_done")

    measure >> keep
