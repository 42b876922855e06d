"""The download broker: all workers and teams share each provider account as one well-behaved client.

Providers ban accounts that log in for each product, that ask faster than agreed, and that go on asking while they are down. None of
that can be kept by a worker alone, so all workers ask here first: those of one machine by a folder, those of a cluster by a service.
`python -m earthself.data.broker status` shows what is shared, `serve` shares it.
"""

from earthself.data.broker.interface import (
    NO_VERDICT,
    Account,
    AccountStatus,
    Broker,
    BrokerAway,
    BrokerError,
    BrokerRefused,
    Gate,
    Grant,
    Limits,
    Order,
    QuotaUsedUp,
    Resting,
)
from earthself.data.broker.local import LocalBroker, shared_folder
from earthself.data.broker.place import Place
from earthself.data.broker.remote import RemoteBroker

__all__ = [
    "NO_VERDICT",
    "Account",
    "AccountStatus",
    "Broker",
    "BrokerAway",
    "BrokerError",
    "BrokerRefused",
    "Gate",
    "Grant",
    "Limits",
    "LocalBroker",
    "Order",
    "Place",
    "QuotaUsedUp",
    "RemoteBroker",
    "Resting",
    "shared_folder",
]
