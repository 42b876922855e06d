"""Removes pods and Secrets of steps that nobody waits for any more: what an Airflow left behind that died for good.

It looks every hour at the clouds of the Airflow Variable `earthself_clouds` (a JSON list of Kubernetes connections; without it
`kubernetes_default`), and says in its log and its result what it removed. It is shipped paused: unpause it where steps run in pods.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG
from earthself.operators import ReapPodsOperator

with DAG(
    dag_id="reap_pods",
    dag_display_name="Reap pods left behind",
    description="Removes pods and Secrets of steps whose task is over",
    doc_md=__doc__,
    schedule="@hourly",
    catchup=False,
    is_paused_upon_creation=True,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=30),
    render_template_as_native_obj=True,
    tags=["earthself", "operations"],
):
    ReapPodsOperator(task_id="reap", clouds="{{ var.json.get('earthself_clouds', ['kubernetes_default']) }}")
