"""`cloud="data"`: a step runs where its products are kept, so that they do not travel and only its result does.

Which provider keeps what where, `earthself.data.holdings` knows; which clouds there are, the connections say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from earthself.data.holdings import Holding, holding
from earthself.operators.clouds import DEFAULT_CONN_ID, Cloud, cloud, cloud_if_known
from earthself.operators.errors import BadRequest

WHERE_THE_DATA_ARE = "data"
VARIABLE = "earthself_clouds"
"""The Airflow Variable that lists the Kubernetes connections, as JSON."""


def placed(name: str | None, items: Iterable[Path], log: Any) -> Cloud:  # noqa: ANN401
    """Give the cloud that a step names, or for `data` the one where most of its products are; says in the log why.

    Raises `BadRequest` where none of the clouds that there are has them.
    """
    if name != WHERE_THE_DATA_ARE:
        return cloud(name)
    from earthself.data.workspace import read_json

    kept = Counter(_kept(read_json(path)) for path in items)
    clouds = known_clouds()
    wanted, count = _most(kept, clouds)
    if isinstance(wanted, str):
        raise BadRequest(f"cloud='data' finds no cloud for this step: {wanted}; name a cloud, or leave cloud out")
    chosen = _fitting(wanted, clouds)
    if chosen is None:
        raise BadRequest(
            f"cloud='data' finds no cloud for this step: its products of {wanted.provider} are kept at {wanted.cloud}, "
            f"{' or '.join(wanted.regions)}, and the clouds are {listed(clouds)}; give a connection that provider and region in its field "
            f"earthself, list it in the Variable {VARIABLE}, or name a cloud"
        )
    doubt = f"; this may be otherwise: {wanted.doubtful}" if wanted.doubtful else ""
    log.info(
        f"It runs in cloud {chosen.conn_id}: {count} of {kept.total()} products are of {wanted.provider}, which keeps them at "
        f"{wanted.cloud} {chosen.region} ({wanted.source}, seen {wanted.looked_up}){doubt}"
    )
    return chosen


def known_clouds(names: Sequence[str] | None = None) -> list[Cloud]:
    """Read the clouds that there are: those of the Variable `earthself_clouds` whose connections are there, or all of some names.

    Raises `BadRequest` for a name that is given and is no connection.
    """
    if names is not None:
        return [cloud(name) for name in names]
    return [found for name in _connections() if (found := cloud_if_known(name))]


def leading_to(place: tuple[str, str], clouds: Sequence[Cloud]) -> Cloud | None:
    """Give the first cloud that is in a region of a provider (both by name, whatever their case); None where none is."""
    wanted = tuple(name.lower() for name in place)
    return next((one for one in clouds if (one.provider.lower(), one.region.lower()) == wanted), None)


def listed(clouds: Sequence[Cloud]) -> str:
    """Name clouds with their places, in words."""
    return ", ".join(f"{one.conn_id} ({one.provider or 'no provider'}/{one.region or 'no region'})" for one in clouds) or "none"


def _kept(item: Mapping[str, Any]) -> Holding | str:
    """Look a product up; words where it is not known."""
    properties = item.get("properties") or {}
    provider, collection = str(properties.get("earthself:provider") or ""), str(properties.get("earthself:collection") or "")
    if not provider:
        return "its inputs do not say which provider keeps them (earthself:provider)"
    return holding(provider, collection) or f"nobody has written down where {provider} keeps {collection or 'its products'}"


def _most(kept: Counter[Holding | str], clouds: Sequence[Cloud]) -> tuple[Holding | str, int]:
    """Choose what most products say, of what there is a cloud for; else what most say."""
    fitting = [(one, count) for one, count in kept.most_common() if not isinstance(one, str) and _fitting(one, clouds)]
    known = [(one, count) for one, count in kept.most_common() if not isinstance(one, str)]
    return next(iter(fitting or known or kept.most_common()), ("it has no products", 0))


def _fitting(kept: Holding, clouds: Sequence[Cloud]) -> Cloud | None:
    return next((one for one in clouds if kept.is_at(one.provider, one.region)), None)


def _connections() -> list[str]:
    from airflow.sdk import Variable

    found = Variable.get(VARIABLE, default=[DEFAULT_CONN_ID], deserialize_json=True)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise BadRequest(f"the Variable {VARIABLE} holds {found!r}; it must be a JSON list of names of connections")
    return found
