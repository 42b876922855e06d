"""Takes the environment of a request away, all of it, and says what is left: nothing, or what could not go, and why.

Trigger it with {"request": ID}. What lies in the environment is gone afterwards: fetch what you need before (docs/environments.md).
"""

from __future__ import annotations

from airflow.sdk import DAG, Param
from earthself.operators.environments import TakeAwayOperator

with DAG(
    dag_id="release_environment",
    dag_display_name="Release an environment",
    description="Takes the environment of a request away",
    doc_md=__doc__,
    schedule=None,
    params={"request": Param(type="string", pattern="^req-[a-z0-9]{10}$", title="Request", description="Its id, such as req-7k2m9xw4ab.")},
    tags=["earthself", "environments"],
):
    take_away = TakeAwayOperator(task_id="take_away")
