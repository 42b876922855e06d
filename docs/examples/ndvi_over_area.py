"""How green is an area? Finds Sentinel-2 products, reads the part that the area needs, and runs a step of one's own on it."""

import sys
from pathlib import Path

from airflow.sdk import DAG, Param
from earthself.operators import EODAGSearchOperator, ProcessingStepOperator, StepResources

AREA = [12.853, 47.968, 12.881, 47.986]  # west, south, east, north; GeoJSON works too

with DAG(
    "ndvi_over_area",
    schedule=None,
    params={
        "area": Param(AREA, type=["array", "object"], title="Area"),
        "start": Param("2017-06-13", type="string", title="First day"),
        "end": Param("2017-06-14", type="string", title="Day after the last"),
    },
):
    found = EODAGSearchOperator(
        task_id="search",
        area="{{ params.area | tojson }}",
        start="{{ params.start }}",
        end="{{ params.end }}",
        max_cloud_cover=30,
        max_products=20,  # more are refused before anything is read
    )
    bands = ProcessingStepOperator(task_id="fetch", step="fetch", inputs=found.output)  # a built-in step
    ProcessingStepOperator(task_id="ndvi", step="indices", inputs=bands.output, parameters={"names": ["NDVI"]})
    ProcessingStepOperator(  # your own program, in any language
        task_id="greenness",
        command=[sys.executable, str(Path(__file__).with_name("greenness.py"))],
        inputs=bands.output,
        parameters={"above": 0.4},
        resources=StepResources(cpu=1, memory="1Gi"),
    )
