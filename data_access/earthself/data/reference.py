"""What travels through XCom instead of data: where a catalogue lies, how many items it has, and its checksum."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from earthself.data.errors import BadInput, NotThere


@dataclass(frozen=True)
class Reference:
    """A pointer to a STAC catalogue (or one document) in a run's workspace."""

    href: str
    """Absolute path or URL of the document."""
    count: int
    """How many items the document lists."""
    sha256: str
    """Hexadecimal SHA-256 of the document's bytes."""

    @classmethod
    def to_file(cls, path: Path, count: int) -> Reference:
        """Point at an existing local file; raises `NotThere` when it is missing."""
        if not path.is_file():
            raise NotThere(f"{path} does not exist; run the task that writes it first")
        return cls(str(path), count, hashlib.sha256(path.read_bytes()).hexdigest())

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Reference:
        """Rebuild what `to_dict` made; raises `BadInput` for anything else."""
        try:
            return cls(str(value["href"]), int(value["count"]), str(value["sha256"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{value!r} is not a reference: it needs href, count and sha256") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain types, fit for XCom and JSON."""
        return asdict(self)

    def path(self) -> Path:
        """The local path, checked: raises `NotThere` when the file is gone or no longer what it was."""
        path = Path(self.href)
        if not path.is_file():
            raise NotThere(f"{path} does not exist any more; clear the task that wrote it")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != self.sha256:
            raise NotThere(
                f"{path} has changed since it was handed over ({found[:12]} is not {self.sha256[:12]}); clear the task that wrote it"
            )
        return path
