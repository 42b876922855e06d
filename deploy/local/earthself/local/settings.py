"""What a person may choose about the local stack, read from the environment once and checked before anything starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from earthself.local.errors import BadSetting

HOST = "127.0.0.1"

SAMPLE_PORT = 8082
"""Where the sample is served unless something else is chosen."""


@dataclass(frozen=True)
class Settings:
    """Where the stack keeps its state and on which ports of the loopback interface it listens."""

    home: Path
    """Folder of all state (`EARTHSELF_HOME`), absolute."""
    port: int = 8080
    """Web interface and REST (`EARTHSELF_PORT`); 0 takes a free one."""
    signature_port: int = 50051
    """EarthSignature over gRPC (`EARTHSELF_SIGNATURE_PORT`); 0 takes a free one."""
    data_port: int = 8081
    """STAC API, tiles and maps (`EARTHSELF_DATA_PORT`); 0 takes a free one."""
    sample_port: int | None = None
    """The sample provider (`EARTHSELF_SAMPLE_PORT`); None takes the last one of this home, else 8082; 0 the last one, else a free one."""
    dags: tuple[Path, ...] = ()
    """Folders of DAG files: the shipped one, then `EARTHSELF_DAGS` (a path list)."""
    providers: tuple[str, ...] = ()
    """EODAG providers in their order (`EARTHSELF_PROVIDERS`, separated by commas); empty: the sample."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the variables named above; raises `BadSetting` for a port or folder that cannot be."""
        home = Path(environ.get("EARTHSELF_HOME") or ".earthself").expanduser().absolute()
        if home.exists() and not home.is_dir():
            raise BadSetting(f"EARTHSELF_HOME is {home}, which is a file; name a folder")
        extra = [Path(text).expanduser().absolute() for text in environ.get("EARTHSELF_DAGS", "").split(os.pathsep) if text]
        for folder in extra:
            if not folder.is_dir():
                raise BadSetting(f"EARTHSELF_DAGS names {folder}, which is not a folder; make it or correct the variable")
        return cls(
            home=home,
            port=_port(environ, "EARTHSELF_PORT", 8080),
            signature_port=_port(environ, "EARTHSELF_SIGNATURE_PORT", 50051),
            data_port=_port(environ, "EARTHSELF_DATA_PORT", 8081),
            sample_port=_port(environ, "EARTHSELF_SAMPLE_PORT", SAMPLE_PORT) if environ.get("EARTHSELF_SAMPLE_PORT") else None,
            dags=(shipped_dags(), *extra),
            providers=tuple(name.strip() for name in environ.get("EARTHSELF_PROVIDERS", "").split(",") if name.strip()),
        )


def shipped_dags() -> Path:
    """Return the folder `dags/` of the source tree that this package was installed from."""
    return Path(__file__).resolve().parents[4] / "dags"


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    try:
        port = int(text)
    except ValueError:
        raise BadSetting(f"{name} is {text!r}, which is not a port; give a number from 1024 to 65535, or 0 for a free one") from None
    if port != 0 and not 1 <= port <= 65535:
        raise BadSetting(f"{name} is {port}; a port is a number from 1 to 65535, or 0 for a free one")
    return port
