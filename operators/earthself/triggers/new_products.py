"""The trigger that watches for new products: all that use one connection share one loop in the triggerer, which asks for them together.

It is imported with DAG files, so whatever asks or remembers is imported when it runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer
from earthself.triggers.watch import (
    DEFAULT_CLOUD_COVER,
    DEFAULT_COLLECTION,
    DEFAULT_EVERY_MINUTES,
    DEFAULT_LOOKBACK_DAYS,
    DEFAULT_REPROCESSED_DAYS,
    MOST_REPROCESSED_DAYS,
    Watch,
)

if TYPE_CHECKING:
    from earthself.triggers.notices import Notify

Key = tuple[str, str]


def now() -> datetime:
    """The time in the triggerer, where Airflow makes the loop and no clock can be handed in."""
    return datetime.now(UTC)


class EODAGNewProductsTrigger(BaseEventTrigger):
    """Fires for products of an area that were not seen before; for an `AssetWatcher`.

    The event's payload is {watch, products: [ids], count}. It says that products wait, not which ones a run gets: the run takes
    them with `NewProductsOperator`, each of them once, whatever dies in between (docs/decisions/new-products-wait-in-a-table.md).

    :param area: `[west, south, east, north]` or GeoJSON. Or leave it out and name `settings`.
    :param settings: name of an Airflow Variable with areas (docs/monitoring.md), read before each look, so that it can change.
    :param collection: EODAG collection.
    :param provider: EODAG provider; None takes the connection's order with fallback.
    :param max_cloud_cover: percent; None takes every product.
    :param lookback_days: how old an acquisition may be that is published now.
    :param reprocessed_days: how old an acquisition may be whose reprocessing is looked for, where it was taken before; 780 at most.
    :param every_minutes: how long after an answer the provider is asked again.
    :param name: what the watch is remembered under; by default made of area, collection and provider.
    """

    watching: ClassVar[dict[Key, dict[int, EODAGNewProductsTrigger]]] = {}
    """The triggers of this process, by what they share; Airflow gives the shared loop the arguments of one of them only."""

    def __init__(
        self,
        *,
        area: Any = None,  # noqa: ANN401 - a list, GeoJSON, or either as JSON text
        settings: str | None = None,
        collection: str = DEFAULT_COLLECTION,
        provider: str | None = None,
        max_cloud_cover: float | None = DEFAULT_CLOUD_COVER,
        lookback_days: float = DEFAULT_LOOKBACK_DAYS,
        every_minutes: float = DEFAULT_EVERY_MINUTES,
        name: str | None = None,
        eodag_conn_id: str = "eodag_default",
        reprocessed_days: float = DEFAULT_REPROCESSED_DAYS,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if (area is None) == (settings is None):
            from earthself.triggers.errors import BadWatch

            raise BadWatch("EODAGNewProductsTrigger takes either area=… or settings=…, the name of an Airflow Variable with areas")
        _within("every_minutes", every_minutes, 1, 1440)
        _within("lookback_days", lookback_days, 1, 400)
        _within("reprocessed_days", reprocessed_days, 0, MOST_REPROCESSED_DAYS)
        if max_cloud_cover is not None:
            _within("max_cloud_cover", max_cloud_cover, 0, 100)
        # As text, because Airflow compares what is serialized to tell triggers apart.
        self.area = area if area is None or isinstance(area, str) else json.dumps(area)
        self.settings = settings
        self.collection = collection
        self.provider = provider
        self.max_cloud_cover = max_cloud_cover
        self.lookback_days = lookback_days
        self.every_minutes = every_minutes
        self.name = name
        self.eodag_conn_id = eodag_conn_id
        self.reprocessed_days = reprocessed_days

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what Airflow needs to make it again in the triggerer."""
        names = (
            "area", "settings", "collection", "provider", "max_cloud_cover", "lookback_days", "every_minutes", "name", "eodag_conn_id",
            "reprocessed_days",
        )  # fmt: skip
        kwargs = {name: getattr(self, name) for name in names}
        return f"{type(self).__module__}.{type(self).__qualname__}", kwargs

    def shared_stream_key(self) -> Hashable:
        """All watches of one connection share a loop; it joins those of one provider and collection."""
        return ("earthself.new_products", self.eodag_conn_id)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Make the loop; Airflow tells it which events are in its database, which is when their products count as announced."""
        conn_id = str(kwargs.get("eodag_conn_id", "eodag_default"))
        return Watching(("earthself.new_products", conn_id), conn_id)

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Take from the loop what concerns this trigger."""
        key: Any = self.shared_stream_key()
        own = self.watching.setdefault(key, {})
        own[id(self)] = self
        try:
            async for event in shared_stream:
                if self.is_mine(str(event["watch"])):
                    yield TriggerEvent(event)  # type: ignore[no-untyped-call]
        finally:
            own.pop(id(self), None)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch alone, where Airflow shares no loop."""
        producer = self.create_shared_stream_producer({"eodag_conn_id": self.eodag_conn_id})
        assert isinstance(producer, Watching)  # noqa: S101 - the line above
        async for event in self.filter_shared_stream(_events(producer)):
            yield event

    def is_mine(self, watch: str) -> bool:
        """Whether a watch was started by this trigger."""
        return watch.startswith(f"{self.settings}:") if self.settings else watch == self.watch_name

    @property
    def watch_name(self) -> str:
        """The name of the one watch of a trigger with an area."""
        made = hashlib.sha256(f"{self.area}|{self.collection}|{self.provider}".encode()).hexdigest()[:12]
        return self.name or f"{self.collection}-{made}"

    def notify(self) -> Notify | None:
        """Give who is told of alerts, now; blocks. Raises `BadWatch` for settings that cannot be read."""
        from earthself.triggers.settings import read_settings

        return read_settings(self.settings).notify if self.settings else None

    def watches(self) -> list[Watch]:
        """Give what is to be watched now; blocks. Raises `BadWatch` for what cannot be read."""
        from earthself.data.area import Area
        from earthself.data.errors import BadInput
        from earthself.triggers.errors import BadWatch
        from earthself.triggers.settings import read_settings

        if self.settings:
            return list(read_settings(self.settings).watches)
        try:
            area = Area.from_conf(json.loads(str(self.area)))
        except (BadInput, ValueError) as error:
            raise BadWatch(f"the area of the watch {self.watch_name} cannot be used: {error}") from None
        return [
            Watch(
                self.watch_name,
                area,
                self.collection,
                self.provider,
                self.max_cloud_cover,
                timedelta(days=self.lookback_days),
                timedelta(minutes=self.every_minutes),
                reprocessed=timedelta(days=self.reprocessed_days),
            )
        ]


def _within(name: str, value: float, least: float, most: float) -> None:
    """Hold an argument against its limits, which are those of the settings; NaN is in none."""
    if not least <= value <= most:
        from earthself.triggers.errors import BadWatch

        raise BadWatch(f"EODAGNewProductsTrigger: {name} is {value:g}; give a number from {least:g} to {most:g}")


class Watching(SharedStreamProducer):
    """The loop: looks for whoever is due, tells of what waits, backs off from a provider that fails."""

    def __init__(
        self,
        key: Key,
        eodag_conn_id: str,
        clock: Callable[[], datetime] | None = None,
        sleep: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        """`clock` gives the time, `sleep` waits for seconds; nothing is asked yet."""
        from earthself.triggers.rounds import Rounds

        self._key = key
        self._sleep = sleep
        self._rounds = Rounds(eodag_conn_id, clock or now)

    async def open_stream(self) -> AsyncIterator[tuple[Any, Any]]:
        """Yield an event for each watch with products of which Airflow has not been told, for ever."""
        while True:
            triggers = list(EODAGNewProductsTrigger.watching.get(self._key, {}).values())
            # In a thread: looking blocks, and the triggerer has other triggers to run.
            for event in await asyncio.to_thread(self._rounds.go, triggers):
                yield event, event
            await self._sleep(self._rounds.pause)

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Count products as announced when Airflow has kept the event; what failed is told again in the next round."""
        kept = [item.broker_payload for item in batch if item.outcome.is_clean]
        await asyncio.to_thread(self._rounds.announced, kept)

    async def aclose(self) -> None:
        """Note that nobody watches any more."""
        await asyncio.to_thread(self._rounds.end)


async def _events(producer: Watching) -> AsyncIterator[Any]:
    """Give the events of a loop that nobody shares; each is told, and then counts as kept."""
    from airflow.triggers.shared_stream import AdvanceOutcome

    async for event, payload in producer.open_stream():
        yield event
        await producer.advance([AdvanceItem(payload, AdvanceOutcome(acked=1, failed=0))])
