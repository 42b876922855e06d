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


def require_creator(user: BaseUser) -> None:
    """Let a user make and change things: whoever may start workflows at all; or answer 403."""
    if not get_auth_manager().is_authorized_dag(method="POST", access_entity=DagAccessEntity.RUN, user=user):
        raise HTTPException(
            status.HTTP_403_FORBIDDEN, f"{user.get_name()} may look but not start or change anything; ask the operator of the platform"
        )


def operates(user: BaseUser) -> bool:
    """Whether a user runs the platform, and is shown what all teams have: who may keep connections of no team."""
    return bool(get_auth_manager().is_authorized_connection(method="POST", user=user))


def teams(user: BaseUser) -> set[str] | None:
    """Give whose records a user may see: those of the teams that the user belongs to; None for those of all."""
    return None if operates(user) else _own_teams(user)


def own_team(user: BaseUser, named: object) -> str:
    """Give the team that something new is to belong to: the only one, or the named one; or answer 403 for one that is not the user's."""
    own = _own_teams(user)
    if named is None and len(own) == 1:
        return next(iter(own))
    if named not in list(own):  # None, and whatever else JSON may hold
        which = f"yours are {', '.join(sorted(own))}" if own else "you belong to none; ask the operator of the platform"
        what = "name the team" if named is None else f"{str(named)[:40]!r} is no team of yours"
        raise HTTPException(status.HTTP_403_FORBIDDEN, f"team: {what}; {which}")
    return str(named)


def _own_teams(user: BaseUser) -> set[str]:
    from airflow.configuration import conf

    if not conf.getboolean("core", "multi_team", fallback=False):
        return {""}
    return set(get_auth_manager().get_authorized_teams(user=user))


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
