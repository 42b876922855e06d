"""Makes the environment of a request: plan, approval by a person (or by a rule), a task for each resource, a last look, handing over.

Trigger it with {"request": ID} once the request was asked (docs/environments.md). Where something fails that trying again does not mend,
what was made is taken away again, and the request says why.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param
from earthself.operators.environments import (
    ApproveEnvironmentOperator,
    BeginEnvironmentOperator,
    HandOverOperator,
    MakeResourceOperator,
    PlanEnvironmentOperator,
    TakeAwayOperator,
)

with DAG(
    dag_id="provision_environment",
    dag_display_name="Provision an environment",
    description="Plan, approval, making and handing over of the environment of a request",
    doc_md=__doc__,
    schedule=None,
    params={"request": Param(type="string", pattern="^req-[a-z0-9]{10}$", title="Request", description="Its id, such as req-7k2m9xw4ab.")},
    tags=["earthself", "environments"],
):
    plan = PlanEnvironmentOperator(task_id="plan")
    approve = ApproveEnvironmentOperator(
        task_id="approve", subject=plan.output["subject"], body=plan.output["body"], by_rule=plan.output["by_rule"]
    )
    begin = BeginEnvironmentOperator(task_id="begin", digest=plan.output["digest"])
    make = MakeResourceOperator.partial(
        task_id="make", retries=20, map_index_template="{{ task.key }}", max_active_tis_per_dagrun=4
    ).expand_kwargs(begin.output)
    hand_over = HandOverOperator(task_id="hand_over")
    take_away = TakeAwayOperator(task_id="take_away", failed=True, trigger_rule="all_done")

    approve >> begin
    make >> hand_over
    [begin, make, hand_over] >> take_away
