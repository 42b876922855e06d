"""The tasks of `provision_environment` and `release_environment`: plan, have it approved, make it, hand it over; and take it away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowSkipException
from earthself.operators.base import EarthSelfOperator
from earthself.operators.errors import BadRequest, OperatorError

if TYPE_CHECKING:
    from airflow.sdk import Context
    from earthself.helpdesk import Actor, Need, Records, Request, Service, State
    from earthself.operators.environment_order import Rules
    from earthself.provision import Builder, Order, Plan, Provisioner

_MINUTES = 60.0
"""The most that one resource may take."""
_AMOUNTS = ("cpus", "memory_gib", "storage_gb")


class EnvironmentOperator(EarthSelfOperator):
    """What all of them know: the request of the run.

    :param request: id of the request, `{{ params.request }}`.
    """

    template_fields: Sequence[str] = ("request",)
    ui_color = "#fde9d9"

    def __init__(self, *, request: str = "{{ params.request }}", **kwargs: Any) -> None:  # noqa: ANN401 - Airflow's own
        super().__init__(**kwargs)
        self.request = request

    @contextmanager
    def _building(self, order: Order, cloud: str, rules: Rules) -> Iterator[tuple[Provisioner, Builder]]:
        from earthself.operators.environment_order import engine_for
        from earthself.provision import Builder, Journal, Patience

        with engine_for(order, cloud, rules) as engine, Journal() as journal:
            yield engine, Builder(engine, journal, Patience(seconds=60 * _MINUTES), self.log.info)


class PlanEnvironmentOperator(EnvironmentOperator):
    """Say what would be made and what it would cost; nothing is made. Returns `by_rule`, `subject`, `body`, `digest`."""

    def __init__(self, *, multiple_outputs: bool = True, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)

    def work(self, context: Context) -> dict[str, Any]:
        """Plan; a request that cannot be made is `failed`, with what to do."""
        from earthself.helpdesk import Change, Records, State
        from earthself.operators.environment_order import rules
        from earthself.provision import ProvisionError

        given, who = rules(), actor(context)
        with Records() as records:
            request, need, service = asked(records, self.request, who, (State.ASKED, State.AWAITING_APPROVAL))
            try:
                plan = self._planned(request, need, service, given)
            except ProvisionError as error:
                if not error.retry:
                    records.change(request.id, Change(State.FAILED, str(error)), who)
                raise
            euros = _euros(plan, need)
            by_rule = _by_rule(plan.order, euros, given)
            told = {"plan": plan.digest, "engine": plan.engine, "resources": len(plan.resources), "euros": euros}
            records.change(request.id, Change(State.AWAITING_APPROVAL, result=told | {"by": "rule" if by_rule else "person"}), who)
        cost = "unknown" if euros is None else f"{euros:.2f} EUR a month"
        self.log.info(
            f"{len(plan.resources)} resources by the engine {plan.engine}; cost: {cost}; approval by {'rule' if by_rule else 'a person'}"
        )
        subject = f"{request.wish.title} ({need.level}, {request.by})"
        return {"by_rule": by_rule, "subject": subject, "body": _page(plan, service, cost), "digest": plan.digest}

    def _planned(self, request: Request, need: Need, service: Service, given: Rules) -> Plan:
        from earthself.operators.environment_order import ordered

        order = ordered(request, need, service.repository, given, request.created)
        with self._building(order, request.wish.cloud, given) as (engine, _):
            return engine.plan(order)


class ApproveEnvironmentOperator(ApprovalOperator):
    """Have a person decide, unless a rule does; who decided stands in the audit. What nobody decides about in time is refused.

    :param request: id of the request.
    :param by_rule: whether a rule has decided already.
    """

    template_fields = (*ApprovalOperator.template_fields, "request", "by_rule")

    def __init__(self, *, by_rule: Any, request: str = "{{ params.request }}", **kwargs: Any) -> None:  # noqa: ANN401
        # An answer that comes at once can fail the task in Airflow 3.3; it then asks again.
        super().__init__(**{"defaults": ApprovalOperator.REJECT, "retries": 3, "retry_delay": timedelta(seconds=5), **kwargs})
        self.by_rule = by_rule
        self.request = request

    def execute(self, context: Context) -> Any:  # noqa: ANN401 - as Airflow has it
        """Ask."""
        from earthself.operators.environment_order import rules

        if str(self.by_rule) == "True":
            return self._decided(context, "rule", approved=True)
        given = rules()
        self.assigned_users = [{"id": name, "name": name} for name in given.approvers]
        self.response_timeout = timedelta(hours=given.approval_hours)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:  # noqa: ANN401
        """Keep who decided what; what follows is skipped where it was refused."""
        if "error" not in event:
            user = event.get("responded_by_user") or {}
            self._decided(context, str(user.get("name") or ""), approved=event["chosen_options"] == [self.APPROVE])
        return super().execute_complete(context, event)

    def _decided(self, context: Context, by: str, *, approved: bool) -> None:
        from earthself.helpdesk import Change, Records, State

        why = f"{by} has refused it; ask them, change the draft and ask again" if by else "nobody has decided in time; ask again"
        change = (
            Change(State.PROVISIONING, result={"approved by": by}) if approved else Change(State.REFUSED, why, result={"refused by": by})
        )
        with Records() as records:
            records.change(self.request, change, actor(context))


class BeginEnvironmentOperator(EnvironmentOperator):
    """Write down what is going to be made: exactly what was approved. Returns the keys of its resources, for a task each.

    :param digest: of the plan that was approved.
    """

    template_fields: Sequence[str] = (*EnvironmentOperator.template_fields, "digest")

    def __init__(self, *, digest: str, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.digest = digest

    def work(self, context: Context) -> list[dict[str, str]]:
        """Begin; raises `BadRequest` where something else would be made by now."""
        from earthself.helpdesk import Records, State
        from earthself.operators.environment_order import ordered, rules
        from earthself.provision import Journal

        given = rules()
        with Records() as records:
            request, need, service = asked(records, self.request, actor(context), (State.PROVISIONING,))
        order = ordered(request, need, service.repository, given, request.created)
        with Journal() as journal:
            begun = journal.resources(request.id)
        if not begun:
            with self._building(order, request.wish.cloud, given) as (engine, builder):
                plan = engine.plan(order)
                if plan.digest != self.digest:
                    raise BadRequest("what would be made is not what was approved any more; release the request and ask again")
                begun = list(builder.begin(plan))
        return [{"key": one.resource.key} for one in begun]


class MakeResourceOperator(EnvironmentOperator):
    """Make one resource of an environment; those that it needs are there first.

    :param key: of the resource.
    """

    template_fields: Sequence[str] = (*EnvironmentOperator.template_fields, "key")

    def __init__(self, *, key: str, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.key = key

    def work(self, _context: Context) -> str:
        """Make it."""
        from earthself.helpdesk import Records
        from earthself.operators.environment_order import rules
        from earthself.provision import EngineBusy, Journal, Stage

        with Records() as records:
            request = records.request(self.request)
        with Journal() as journal:
            order, standing = journal.order(self.request), {one.resource.key: one for one in journal.resources(self.request)}
        written = standing[self.key]
        if written.stage in (Stage.GOING, Stage.GONE):
            raise OperatorError(f"{self.key} is being taken away; make another request")
        if missing := [key for key in written.resource.needs if standing[key].stage is not Stage.MADE]:
            if lost := [key for key in missing if standing[key].hopeless]:
                raise OperatorError(f"{self.key} needs {', '.join(lost)}, which could not be made")
            raise EngineBusy(f"{self.key} waits for {', '.join(missing)}")
        with self._building(order, request.wish.cloud, rules()) as (_, builder):
            return builder.make(order, written).id


class HandOverOperator(EnvironmentOperator):
    """Look at all of it once more, and hand it over. Where it lies stands in the log, and never what it holds."""

    def work(self, context: Context) -> None:
        """Hand over; raises `OperatorError` where something is not as it should be."""
        from earthself.helpdesk import Change, Records, State
        from earthself.operators.environment_order import rules
        from earthself.provision import Journal, Status

        with Records() as records, Journal() as journal:
            request, order = records.request(self.request), journal.order(self.request)
            with self._building(order, request.wish.cloud, rules()) as (engine, builder):
                bad = {key: seen for key, seen in builder.look(self.request).items() if seen.status is not Status.READY}
                if bad:
                    raise OperatorError(
                        f"not ready: {', '.join(f'{key} is {seen.status} {seen.message}'.strip() for key, seen in bad.items())}"
                    )
                made = [one.resource.key for one in journal.resources(self.request)]
            told = {"engine": engine.name, "resources": made, "until": order.until.isoformat()}
            records.change(self.request, Change(State.READY, result=told), actor(context))


class TakeAwayOperator(EnvironmentOperator):
    """Take an environment away, all of it, proven by the engine's own listing; what cannot go is listed, and tried again by the next run.

    :param failed: whether this is the end of a provisioning that failed; else of a release.
    """

    def __init__(self, *, failed: bool = False, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.failed = failed

    def work(self, context: Context) -> None:
        """Take it away; raises `OperatorError` with what is left, and always where this is the end of a provisioning."""
        from earthself.helpdesk import Change, Records, State

        who = actor(context)
        with Records() as records:
            request = records.request(self.request)
            if self.failed:
                _look_why(records, request, who)
            if not self.failed:
                records.change(self.request, Change(State.RELEASING), who)
            left = self._left(request)
            said = f"{len(left)} could not be taken away: {'; '.join(left)}" if left else "what was made is taken away again"
            if not self.failed and not left:
                records.change(self.request, Change(State.RELEASED, result={"left": 0}), who)
                return
            todo = (
                "run release_environment to try that again"
                if left
                else "the log of the run says what failed; mend it and make another request"
            )
            records.change(self.request, Change(State.FAILED, f"{said}. Next: {todo}"), who)
            raise OperatorError(f"{said}. Next: {todo}")

    def _left(self, request: Request) -> list[str]:
        """Take away what the journal knows; gives what is still there, by the journal's word and by the engine's."""
        from earthself.operators.environment_order import rules
        from earthself.provision import Journal

        with Journal() as journal:
            if not journal.resources(request.id):
                return []
            order = journal.order(request.id)
            with self._building(order, request.wish.cloud, rules()) as (engine, builder):
                stuck = builder.remove(request.id)
                return [f"{one.resource.key}: {one.error}" for one in stuck if one.error] or list(engine.left(request.id))


def _look_why(records: Records, request: Request, who: Actor) -> None:
    """Let go on what this run has begun and not brought to its end; else there is nothing to take away, or it is another run's."""
    from earthself.helpdesk import State

    mine = taken_by(records, request) == who.run
    if mine and request.state in (State.AWAITING_APPROVAL, State.PROVISIONING):
        return
    if mine and request.state in (State.READY, State.REFUSED):
        raise AirflowSkipException(f"request {request.id} is {request.state}: nothing is to be taken away")
    raise OperatorError(f"request {request.id} is {request.state}; the first task that failed says why, and nothing was made by this run")


def actor(context: Context) -> Actor:
    """Say who does it: the run."""
    from earthself.helpdesk import Actor

    ti = context["ti"]
    return Actor("earthself", f"{ti.dag_id}/{ti.run_id}")


def asked(records: Records, request_id: str, who: Actor, states: Sequence[State]) -> tuple[Request, Need, Service]:
    """Read a request with its need and its service; raises `BadRequest` for one in another state, or that another run has taken up."""
    request = records.request(request_id)
    if request.state not in states:
        raise BadRequest(f"request {request.id} is {request.state}, and nothing is made for it; it has to be {' or '.join(states)}")
    if request.state is not states[0] or len(states) == 1:
        other = taken_by(records, request)
        if other != who.run:
            raise BadRequest(f"request {request.id} is {request.state} by the run {other or 'of nobody'}; look there")
    need = next(one for one in records.needs(request.service) if one.id == request.wish.need)
    return request, need, records.service(request.service)


def taken_by(records: Records, request: Request) -> str:
    """Say which run brought a request to the state that it is in; empty where it was a person."""
    changes = (row for row in records.audit(subject=request.id) if row.what == "request changed")
    return next((row.run for row in changes if row.result["to"] == request.state.value), "")


def _euros(plan: Plan, need: Need) -> float | None:
    """What it costs in a month: the engine's own word, else what the Suggest Engine expects of the best offer; None: nobody knows."""
    from earthself.benchmark import suggest

    if plan.euros is not None:
        return plan.euros
    answer = suggest(dict(need.document))
    return None if answer.best is None or answer.best.estimate.euros.value is None else float(answer.best.estimate.euros.value)


def _by_rule(order: Order, euros: float | None, given: Rules) -> bool:
    rule: Mapping[str, float] | None = given.without_approval
    if rule is None or euros is None or euros > rule["euros"]:
        return False
    return all(getattr(order.quota, name) <= rule[name] for name in _AMOUNTS)


def _page(plan: Plan, service: Service, cost: str) -> str:
    """Write what whoever approves reads; what people typed is quoted, so that it is no markup."""
    order, quota = plan.order, plan.order.quota
    parts = [
        f"Service {_quoted(service.name)} of {_quoted(order.owner)}, team {_quoted(order.team or 'none')}, until {order.until}.",
        f"Cost: {cost}. At most {quota.cpus:g} CPUs, {quota.memory_gib:g} GiB of memory, {quota.storage_gb:g} GB of storage.",
        f"The engine {plan.engine} makes {len(plan.resources)}: {', '.join(_quoted(one.key) for one in plan.resources)}.",
        *plan.notes,
    ]
    return "\n\n".join(parts)


def _quoted(text: str) -> str:
    return "`" + text.replace("`", "'") + "`"
