"""What every engine does; the rest of the platform knows no more of it.

Secrets go from the engine to where their owner finds them, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from earthself.provision.model import Observed, Order, Plan, Resource


class Provisioner(Protocol):
    """An engine: local folders, a namespace of Kubernetes, SafeScale, Terraform.

    Each of its calls ends within a minute. What takes longer is begun by `create` and followed by `observe`; a command that blocks for half
    an hour is the engine's own affair. Every call may come twice, and may come after a process that died in the middle of the same call.
    """

    @property
    def name(self) -> str:
        """What it is called in plans and in the journal."""
        ...

    def plan(self, order: Order) -> Plan:
        """Say what would be made; nothing is. Raises `BadOrder`, and `NoQuota` where there is no room."""
        ...

    def create(self, order: Order, resource: Resource) -> str:
        """Make a resource or begin to, and give the engine's id for it; what is there as it should be stays.

        Raises `EngineFailed`, `EngineBusy`.
        """
        ...

    def observe(self, order: Order, resource: Resource) -> Observed:
        """Look at a resource. Raises `EngineBusy` where nobody can say."""
        ...

    def destroy(self, order: Order, resource: Resource) -> None:
        """Take a resource away or begin to; none is no error. Raises `EngineFailed`, `EngineBusy`."""
        ...

    def left(self, request: str) -> Sequence[str]:
        """List everything there is of a request, by looking and not by remembering, in words for people."""
        ...
