"""The platform's metrics for Prometheus: tasks are too short to be asked, so this reads what they and the triggerer left in tables.

What Airflow knows of itself (queues, schedulers, pools) it sends by OpenTelemetry: docs/operations.md.
"""

from __future__ import annotations

import hmac
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

import sqlalchemy as sa
from earthself.data.broker import AccountStatus, LocalBroker, Place, shared_folder
from earthself.data.errors import EarthSelfError
from earthself.data.workspace import Workspace
from earthself.hooks.tally import BUCKET, SUM, Amount, Tally
from earthself.operators import counting
from earthself.triggers.memory import Memory
from earthself.triggers.pods.waiting import PODS_WAITING, SPOKEN_WITHIN
from earthself.triggers.tables import ALERT, SIGHTING, WATCH
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

TOKEN = "EARTHSELF_METRICS_TOKEN"  # noqa: S105 - the variable's name
_LOG = logging.getLogger(__name__)
_COUNTERS = {
    counting.STEPS_BEGUN: ("Attempts of steps that began.", ("step", "runtime")),
    counting.STEPS_ENDED: ("Attempts of steps that ended: done, nothing, or why not.", ("step", "runtime", "result")),
    counting.STEP_CPU: ("Processor time of steps that ended; of steps in pods it is not known.", ("step", "runtime")),
    counting.READ: ("Bytes that steps read from providers.", ("step",)),
    counting.STAGED: ("Bytes staged for steps through storages, and whether they crossed clouds.", ("cloud", "direction", "crossed")),
    counting.PUBLISHED: ("Bytes of published results.", ("dag_id",)),
    counting.FAILURES: ("Tasks of EarthSelf's operators that failed, each try, by whose fault it was.", ("dag_id", "reason")),
}
_HISTOGRAMS = {
    counting.STEP_SECONDS: ("Wall-clock time of steps that ended.", ("step", "runtime"), counting.SECONDS),
    counting.STEP_MEMORY: ("Most memory of steps that ended, where it is known.", ("step", "runtime"), counting.MEMORY),
}
_BREAKER = ("closed", "open", "half-open", "holding")


def exposition(accept: str) -> tuple[bytes, str]:
    """Give all metrics in the form that a scraper accepts, and its content type.

    A source that cannot be read takes no other with it: its metrics are absent, and `earthself_source_up` says so.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Platform())
    encode, kind = choose_encoder(accept)
    return encode(registry), kind


def allowed(authorization: str | None) -> bool | None:
    """Whether a request may read the metrics, by its header; None where no token is set, so that nobody may."""
    token = os.environ.get(TOKEN, "")
    if not token:
        return None
    return hmac.compare_digest((authorization or "").encode(), f"Bearer {token}".encode())


class _Platform(Collector):
    """Asks every source, one scrape at a time: two scrapers together must not cost the web server twice."""

    _lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Give the families."""
        now = datetime.now(UTC)
        sources: dict[str, Callable[[], Iterable[Metric]]] = {
            "tally": lambda: _counted(now),
            "watches": _watches,
            "accounts": _accounts,
            "workspace": _workspace,
        }
        up = GaugeMetricFamily("earthself_source_up", "Whether the metrics of a source could be read.", labels=["source"])
        with self._lock:
            for name, read in sources.items():
                try:
                    found = list(read())
                except (EarthSelfError, OSError) as error:
                    _LOG.error("the metrics of %s cannot be read: %s", name, error)
                    found = []
                    up.add_metric([name], 0)
                else:
                    up.add_metric([name], 1)
                yield from found
        yield up


def _counted(now: datetime) -> Iterator[Metric]:
    with Tally() as tally:
        counted, told = tally.counted(), tally.told(now - SPOKEN_WITHIN)
    by_name: dict[str, list[Amount]] = {}
    for amount in [*_nothing_yet(counted), *counted]:
        by_name.setdefault(amount.name, []).append(amount)
    for name, (text, labels) in _COUNTERS.items():
        counter = CounterMetricFamily(name, text, labels=labels)
        for amount in by_name.get(name, []):
            counter.add_metric([amount.labels.get(label, "") for label in labels], amount.value)
        yield counter
    for name, (text, labels, bounds) in _HISTOGRAMS.items():
        yield _histogram(HistogramMetricFamily(name, text, labels=labels), by_name, labels, bounds)
    waiting = GaugeMetricFamily(PODS_WAITING, "Pods of steps that wait for room in their namespace or on its nodes.", labels=["cloud"])
    for amount in told:
        waiting.add_metric([amount.labels["cloud"]], amount.value)
    yield waiting


def _nothing_yet(counted: Iterable[Amount]) -> list[Amount]:
    """Give the failures that a known workflow has not had: a rate sees a rise from 0 to 1, not a 1 that was never seen before."""
    there = {(amount.labels["dag_id"], amount.labels["reason"]) for amount in counted if amount.name == counting.FAILURES}
    wanted = {(dag_id, reason) for dag_id, _ in there for reason in counting.REASONS}
    return [Amount(counting.FAILURES, {"dag_id": dag_id, "reason": reason}, 0) for dag_id, reason in sorted(wanted - there)]


def _histogram(
    family: HistogramMetricFamily, by_name: dict[str, list[Amount]], labels: tuple[str, ...], bounds: Iterable[float]
) -> HistogramMetricFamily:
    """Add up what was counted for each bucket alone, as Prometheus wants it."""
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for amount in by_name.get(family.name, []):
        found.setdefault(tuple(amount.labels.get(label, "") for label in labels), {})[amount.labels[BUCKET]] = amount.value
    sums = {tuple(amount.labels.get(label, "") for label in labels): amount.value for amount in by_name.get(family.name + SUM, [])}
    for key, counts in found.items():
        total, buckets = 0.0, []
        for bound in [f"{bound:g}" for bound in bounds] + ["+Inf"]:
            total += counts.get(bound, 0.0)
            buckets.append((bound, total))
        family.add_metric(list(key), buckets, sums[key])
    return family


def _watches() -> Iterator[Metric]:
    stored = sa.case((SIGHTING.c.stored.is_not(None), SIGHTING.c.acquired))
    with Memory() as memory, memory.reading() as connection:
        watches = connection.execute(sa.select(WATCH).where(WATCH.c.ended.is_(None)).order_by(WATCH.c.name)).all()
        newest = sa.select(SIGHTING.c.watch, sa.func.max(SIGHTING.c.acquired), sa.func.max(stored)).group_by(SIGHTING.c.watch)
        seen = {watch: (one, other) for watch, one, other in connection.execute(newest)}
        states = sa.select(SIGHTING.c.watch, SIGHTING.c.state, sa.func.count()).group_by(SIGHTING.c.watch, SIGHTING.c.state)
        counts = connection.execute(states).all()
        broken = set(connection.scalars(sa.select(ALERT.c.watch).where(ALERT.c.ended.is_(None))))
    moments = {
        "answered": ("When the last question began that a provider answered.", {w.name: w.answered for w in watches}),
        "newest_seen": (
            "When the newest product was acquired that was seen.",
            {w.name: seen.get(w.name, (None, None))[0] for w in watches},
        ),
        "newest_stored": (
            "When the newest product was acquired whose signature is stored.",
            {w.name: seen.get(w.name, (None, None))[1] for w in watches},
        ),
        "since": ("When the area began to be watched.", {w.name: w.since for w in watches}),
    }
    for name, (text, values) in moments.items():
        family = GaugeMetricFamily(f"earthself_watch_{name}_timestamp_seconds", text, labels=["watch"])
        for watch, moment in values.items():
            if moment is not None:
                family.add_metric([watch], moment.timestamp())
        yield family
    goal = GaugeMetricFamily("earthself_watch_goal_seconds", "Within which time an acquisition is promised to be stored.", labels=["watch"])
    promise = GaugeMetricFamily("earthself_watch_promise_broken", "Whether an area is less fresh than promised.", labels=["watch"])
    for watch in watches:
        if watch.goal_hours is not None:
            goal.add_metric([watch.name], watch.goal_hours * 3600)
            promise.add_metric([watch.name], float(watch.name in broken))
    products = GaugeMetricFamily(
        "earthself_watch_products", "Products of a watched area by what became of them.", labels=["watch", "state"]
    )
    names = {watch.name for watch in watches}
    for name, state, count in counts:
        if name in names:
            products.add_metric([name, state], count)
    yield from (goal, promise, products)


def _accounts() -> Iterator[Metric]:
    place, folder = Place.from_env(), shared_folder()
    broker = place.open(patience=2.0) if place else LocalBroker(folder) if folder.is_dir() else None
    accounts: list[AccountStatus] = broker.status() if broker else []
    labels = ["provider", "account"]

    def gauge(name: str, text: str, value: Callable[[AccountStatus], float | None]) -> Metric:
        family = GaugeMetricFamily(f"earthself_provider_{name}", text, labels=labels)
        for each in accounts:
            if (found := value(each)) is not None:
                family.add_metric([each.provider, each.account], found)
        return family

    breaker = GaugeMetricFamily("earthself_provider_breaker", "In which state a provider's breaker is.", labels=[*labels, "state"])
    moved = GaugeMetricFamily("earthself_provider_month_bytes", "Bytes moved in this calendar month (UTC).", labels=[*labels, "team"])
    logins = CounterMetricFamily("earthself_provider_logins", "Tokens fetched since the account's state began.", labels=labels)
    for each in accounts:
        for state in _BREAKER:
            breaker.add_metric([each.provider, each.account, state], float(each.breaker == state))
        for team, count in each.bytes.items():
            moved.add_metric([each.provider, each.account, team], count)
        logins.add_metric([each.provider, each.account], each.logins)
    yield from (breaker, moved, logins)
    yield gauge("sessions", "Login sessions that are open.", lambda each: len(each.tokens))
    yield gauge("quota_bytes", "Bytes that may be moved in a calendar month, where that is limited.", lambda each: each.quota)
    yield gauge("waiting_requests", "Requests that wait for their turn.", lambda each: each.waiting)
    yield gauge("requests_per_second", "Requests a second in the last minute.", lambda each: each.requests_a_second)
    yield gauge("orders", "Offline products that are being staged.", lambda each: len(each.orders))


def _workspace() -> Iterator[Metric]:
    root = Workspace.from_env().root
    used = shutil.disk_usage(next(each for each in (root, *root.parents) if each.is_dir()))
    yield GaugeMetricFamily("earthself_workspace_free_bytes", "Bytes free on the volume of the workspace.", value=used.free)
    yield GaugeMetricFamily("earthself_workspace_size_bytes", "Size of the volume of the workspace.", value=used.total)
