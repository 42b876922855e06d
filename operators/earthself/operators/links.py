"""Buttons in Airflow's interface that open what a run has published."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


class _ResultLink(BaseOperatorLink):
    """A published file of the run; served by the portal to whoever may see the run."""

    file: str

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ANN401, ARG002 - Airflow's own signature
        """Give the address; Airflow keeps it when the task has ended."""
        return address(ti_key.dag_id, ti_key.run_id, self.file)


class ReportLink(_ResultLink):
    """The report."""

    name = "Report"
    file = "report.html"


class QuicklookLink(_ResultLink):
    """The picture."""

    name = "Picture"
    file = "quicklook.png"


class ItemLink(_ResultLink):
    """The STAC item."""

    name = "STAC item"
    file = "item.json"


class SuggestionLink(BaseOperatorLink):
    """What the Cloud Suggest Engine answered; served by the portal to whoever may see the run."""

    name = "Suggestion"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ANN401, ARG002 - Airflow's own signature
        """Give the address; Airflow keeps it when the task has ended."""
        from earthself.data.workspace import Workspace

        folder = Workspace.from_env().run(ti_key.dag_id, ti_key.run_id).suggestion(ti_key.task_id, ti_key.map_index)
        return address(ti_key.dag_id, ti_key.run_id, f"suggestions/{folder.name}/report.html")


class MapLink(BaseOperatorLink):
    """The map to look around in, where the platform serves its data (`EARTHSELF_DATA_URL`)."""

    name = "Map"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ANN401, ARG002 - Airflow's own signature
        """Give the address, empty where no data is served; Airflow keeps it when the task has ended."""
        return map_address(ti_key.dag_id, ti_key.run_id) or ""


def map_address(dag_id: str, run_id: str) -> str | None:
    """Where the published result of a run can be looked at; None where no data is served."""
    from earthself.operators.catalogs import result_id

    base = os.environ.get("EARTHSELF_DATA_URL", "").rstrip("/")
    return f"{base}/results/{quote(result_id(dag_id, run_id), safe='')}/map" if base else None


def address(dag_id: str, run_id: str, file: str) -> str:
    """Path of a published file on Airflow's web server, below the path that the server is reached at."""
    from airflow.sdk import conf

    base = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    return f"{base}/earthself/runs/{quote(dag_id, safe='')}/{quote(run_id, safe='')}/{quote(file)}"
