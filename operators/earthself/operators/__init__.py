"""Airflow operators for Earth observation. Nothing here imports a raster library, EODAG or gRPC before a task runs."""

from __future__ import annotations

from earthself.operators.benchmark import KeepSamplesOperator, MeasureTargetOperator, PlanBenchmarkOperator
from earthself.operators.dask_cluster import DaskCluster
from earthself.operators.earthsignature import EarthSignatureIngestOperator, EarthSignatureListOperator
from earthself.operators.new_products import NewProductsDoneOperator, NewProductsOperator
from earthself.operators.planning import EstimateOperator, PlanBatchesOperator
from earthself.operators.publish import PublishOperator
from earthself.operators.reap import ReapPodsOperator
from earthself.operators.resources import StepResources, workers
from earthself.operators.search import EODAGDownloadOperator, EODAGSearchOperator
from earthself.operators.staging import StageProductsOperator
from earthself.operators.step import ProcessingStepOperator
from earthself.operators.suggest import CloudSuggestOperator

__all__ = [
    "CloudSuggestOperator",
    "DaskCluster",
    "EODAGDownloadOperator",
    "EODAGSearchOperator",
    "EarthSignatureIngestOperator",
    "EarthSignatureListOperator",
    "EstimateOperator",
    "KeepSamplesOperator",
    "MeasureTargetOperator",
    "NewProductsDoneOperator",
    "NewProductsOperator",
    "PlanBatchesOperator",
    "PlanBenchmarkOperator",
    "ProcessingStepOperator",
    "PublishOperator",
    "ReapPodsOperator",
    "StageProductsOperator",
    "StepResources",
    "workers",
]
