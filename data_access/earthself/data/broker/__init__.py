"""The download broker: all workers and teams of a machine share each provider account as one well-behaved client.

Providers ban accounts that log in for each product, that ask faster than agreed, and that go on asking while they are down. None of
that can be kept by a worker alone, so all workers ask here first. `python -m earthself.data.broker status` shows what is shared.
"""

from earthself.data.broker.interface import NO_VERDICT, Account, AccountStatus, Broker, Gate, Grant, Limits, Order, QuotaUsedUp, Resting
from earthself.data.broker.local import LocalBroker, shared_folder

__all__ = [
    "NO_VERDICT",
    "Account",
    "AccountStatus",
    "Broker",
    "Gate",
    "Grant",
    "Limits",
    "LocalBroker",
    "Order",
    "QuotaUsedUp",
    "Resting",
    "shared_folder",
]
