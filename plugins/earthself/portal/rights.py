"""Who may do what, asked of Airflow's own auth manager, so that every way of logging in works here too."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.models.dag import DagModel
from fastapi import HTTPException, Request, status


def require_runs(user: BaseUser, dag_id: str, method: Literal["GET", "POST"]) -> None:
    """Let a user see (GET) or start (POST) runs of a workflow, or answer 403."""
    if _may(user, dag_id, method):
        return
    what = "see" if method == "GET" else "start"
    raise HTTPException(
        status.HTTP_403_FORBIDDEN, f"{user.get_name()} may not {what} runs of {dag_id}; ask the operator of the platform for the right"
    )


def may_see_runs(user: BaseUser, dag_id: str) -> bool:
    """Whether a user may see runs of a workflow."""
    return _may(user, dag_id, "GET")


def require_reader(user: BaseUser) -> None:
    """Let a user ask what belongs to no workflow: whoever may see workflows at all; or answer 403."""
    if not get_auth_manager().is_authorized_dag(method="GET", user=user):
        raise HTTPException(
            status.HTTP_403_FORBIDDEN, f"{user.get_name()} may not see workflows; ask the operator of the platform for the right"
        )


def require_same_origin(request: Request) -> None:
    """Refuse what a page of another site had a browser send: the session cookie travels with it, the intention does not."""
    origin = request.headers.get("origin")
    if origin is None:
        return
    from airflow.configuration import conf

    own = {request.headers.get("host", ""), urlsplit(conf.get("api", "base_url", fallback="")).netloc}
    if urlsplit(origin).netloc not in own - {""}:
        raise HTTPException(
            status.HTTP_403_FORBIDDEN, f"requests from pages of {origin[:100]} are not accepted; open the platform's own pages"
        )


def _may(user: BaseUser, dag_id: str, method: Literal["GET", "POST"]) -> bool:
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    return bool(get_auth_manager().is_authorized_dag(method=method, access_entity=DagAccessEntity.RUN, details=details, user=user))
