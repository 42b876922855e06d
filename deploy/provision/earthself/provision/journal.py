"""What was meant to be made is written down before it is, and what was made after: nothing is forgotten, whoever dies when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa
from earthself.data.database import Kept
from earthself.provision.errors import BadOrder, ProvisionError, TakenAway
from earthself.provision.model import Level, Order, Plan, Quota, Resource, Stage, Written
from earthself.provision.tables import ENVIRONMENT, RESOURCE, TABLES
from sqlalchemy.engine import Connection, RowMapping

_LONGEST_ERROR = 2000
_MAKING = (Stage.PLANNED, Stage.BEGUN, Stage.MADE)


class Journal(Kept):
    """The environments of a platform and their resources."""

    def __init__(self, url: str | None = None, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Use the platform's database unless another one is named."""
        super().__init__(TABLES, url)
        self._now = now

    def open(self, plan: Plan) -> None:
        """Write down what is going to be made, all of it before any of it; the same plan again changes nothing.

        Raises `BadOrder` for another plan of a request that was begun, and for one whose environment is gone.
        """
        order = plan.order
        with self._database.writing() as connection:
            known = connection.execute(sa.select(ENVIRONMENT).where(ENVIRONMENT.c.request == order.request)).mappings().first()
            if known is not None:
                if known["gone"] is not None:
                    raise BadOrder(f"the environment of {order.request} is gone; make another request")
                if known["digest"] != plan.digest:
                    raise BadOrder(f"{order.request} was begun by another plan; take that away first, or make another request")
                return
            values = {"engine": plan.engine, "digest": plan.digest, "order": _plain(order), "until": order.until, "begun": self._now()}
            connection.execute(ENVIRONMENT.insert().values(request=order.request, **values))
            rows = [_row(order.request, number, one, self._now()) for number, one in enumerate(plan.resources)]
            if rows:
                connection.execute(RESOURCE.insert(), rows)

    def order(self, request: str) -> Order:
        """Give what was ordered; raises `BadOrder` for a request of which nothing was ever begun."""
        with self._database.reading() as connection:
            found = connection.execute(sa.select(ENVIRONMENT.c.order).where(ENVIRONMENT.c.request == request)).scalar()
        if found is None:
            raise BadOrder(f"nothing was ever begun for request {request[:80]!r}")
        return _order(found)

    def resources(self, request: str) -> list[Written]:
        """Give the resources of an environment in the order of their making."""
        query = _written().where(RESOURCE.c.request == request).order_by(RESOURCE.c.number)
        with self._database.reading() as connection:
            return [_as_written(row) for row in connection.execute(query).mappings()]

    def note(self, written: Written, stage: Stage, *, id: str = "", error: ProvisionError | None = None) -> Written:  # noqa: A002 - the engine's own word
        """Write how far a resource is; raises `TakenAway` where it is to be made and somebody takes it away."""
        values: dict[str, Any] = {"stage": stage.value, "id": id or written.id, "error": str(error or "")[:_LONGEST_ERROR]}
        values |= {"hopeless": error is not None and not error.retry, "changed": self._now()}
        where = (RESOURCE.c.request == written.request) & (RESOURCE.c.number == written.number)
        with self._database.writing() as connection:
            if stage in _MAKING:
                where &= RESOURCE.c.stage.in_([one.value for one in _MAKING])
            if connection.execute(RESOURCE.update().where(where).values(**values)).rowcount == 0:
                raise TakenAway(f"{written.resource.key} of {written.request} is being taken away; make another request")
            if stage is Stage.GONE:
                self._close(connection, written.request)
        return replace(written, stage=stage, **{name: values[name] for name in ("id", "error", "hopeless")})

    def standing(self) -> list[Order]:
        """Give the orders of which something stands, or may stand."""
        query = sa.select(ENVIRONMENT.c.order).where(ENVIRONMENT.c.gone.is_(None)).order_by(ENVIRONMENT.c.begun, ENVIRONMENT.c.request)
        with self._database.reading() as connection:
            return [_order(found) for found in connection.scalars(query)]

    def stuck(self) -> list[Written]:
        """Give what could not be taken away, so that it is tried again."""
        query = _written().where(RESOURCE.c.stage == Stage.GOING.value, RESOURCE.c.error != "")
        with self._database.reading() as connection:
            return [_as_written(row) for row in connection.execute(query.order_by(RESOURCE.c.changed)).mappings()]

    def _close(self, connection: Connection, request: str) -> None:
        stands = sa.select(RESOURCE.c.number).where(RESOURCE.c.request == request, RESOURCE.c.stage != Stage.GONE.value)
        if connection.execute(stands.limit(1)).first() is None:
            connection.execute(ENVIRONMENT.update().where(ENVIRONMENT.c.request == request).values(gone=self._now()))


def _row(request: str, number: int, one: Resource, now: datetime) -> dict[str, Any]:
    values = {"kind": one.kind, "name": one.name, "settings": dict(one.settings), "needs": list(one.needs)}
    return {
        "request": request,
        "number": number,
        **values,
        "stage": Stage.PLANNED.value,
        "id": "",
        "error": "",
        "hopeless": False,
        "changed": now,
    }


def _written() -> sa.Select[Any]:
    return sa.select(RESOURCE, ENVIRONMENT.c.engine).join(ENVIRONMENT, ENVIRONMENT.c.request == RESOURCE.c.request)


def _as_written(row: RowMapping) -> Written:
    resource = Resource(row["kind"], row["name"], row["settings"], tuple(row["needs"]))
    return Written(row["request"], row["number"], row["engine"], resource, Stage(row["stage"]), row["id"], row["error"], row["hopeless"])


def _plain(order: Order) -> dict[str, Any]:
    return asdict(order) | {"until": order.until.isoformat()}


def _order(said: Mapping[str, Any]) -> Order:
    own = {"level": Level(said["level"]), "until": date.fromisoformat(said["until"]), "quota": Quota(**said["quota"])}
    return Order(**{**said, **own})
