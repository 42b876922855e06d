"""Where the workers' broker is: a folder of this machine, or the address of a service with the token that it asks for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from earthself.data.broker.interface import Broker
from earthself.data.broker.local import LocalBroker
from earthself.data.broker.remote import PATIENCE, RemoteBroker
from earthself.data.errors import BadInput

BROKER, TOKEN_FILE, TOKEN, CA = (
    "EARTHSELF_BROKER",
    "EARTHSELF_BROKER_TOKEN_FILE",
    "EARTHSELF_BROKER_TOKEN",
    "EARTHSELF_BROKER_CA",
)


@dataclass(frozen=True)
class Place:
    """A broker that can be opened."""

    where: str = ""
    """Folder, or address of a service; empty shares nothing with other processes."""
    token: str = field(default="", repr=False)
    """What the service asks for."""
    authorities: str = field(default="", repr=False)
    """Certificates (PEM) to trust instead of the machine's."""

    @classmethod
    def from_env(cls, where: str | None = None) -> Place | None:
        """The broker at `where`, else at EARTHSELF_BROKER, None where that is not set; token and authorities as the environment has them.

        Raises `BadInput` for what is neither address nor folder, and for a file that cannot be read.
        """
        where = where or os.environ.get(BROKER)
        if not where:
            return None
        place = cls(where, _read(TOKEN_FILE).strip() or os.environ.get(TOKEN, ""), _read(CA))
        if not place.is_service and not Path(where).is_absolute():
            raise BadInput(
                f"the download broker {where!r} is neither an address like https://broker.example.org:8083 nor an absolute folder"
            )
        return place

    @property
    def is_service(self) -> bool:
        """Whether others than this machine's workers can ask there."""
        return self.where.startswith(("http://", "https://"))

    def open(self, patience: float = PATIENCE) -> Broker:
        """Open it; nothing is asked yet. A service that is away is waited for so many seconds."""
        if self.is_service:
            return RemoteBroker(self.where, self.token, self.authorities, patience=patience)
        return LocalBroker(Path(self.where) if self.where else None)


def _read(name: str) -> str:
    named = os.environ.get(name)
    if not named:
        return ""
    try:
        return Path(named).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BadInput(f"{name} names {named}, which cannot be read ({getattr(error, 'strerror', None) or 'no text'})") from None
