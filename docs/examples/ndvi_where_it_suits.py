"""Asks where a monthly service should run, and runs its steps there: in the cloud of the Kubernetes connection that leads to it."""

from airflow.sdk import DAG
from earthself.operators import CloudSuggestOperator, EODAGSearchOperator, ProcessingStepOperator

AREA = [12.853, 47.968, 12.881, 47.986]  # west, south, east, north
NEED = {
    "title": "NDVI of some fields, six times a month",
    "work": {"area": AREA, "times": 6},
    "profile": {"name": "ndvi", "cpu_seconds": 60, "memory_gib": 1.5, "read_gb": 0.4, "speed": 100},
    "countries": ["EU"],
    "weights": {"cost": 2, "time": 1},
}

with DAG("ndvi_where_it_suits", schedule=None):
    # With require_connection=True the run fails where no connection leads there; else the steps run where steps without a cloud run.
    where = CloudSuggestOperator(task_id="where", need=NEED)
    found = EODAGSearchOperator(task_id="search", area=AREA, start="2017-06-13", end="2017-06-14", max_cloud_cover=30)
    bands = ProcessingStepOperator(task_id="fetch", step="fetch", inputs=found.output, cloud=where.output["connection"])
    ProcessingStepOperator(
        task_id="ndvi", step="indices", inputs=bands.output, parameters={"names": ["NDVI"]}, cloud=where.output["connection"]
    )
