"""Provider settings from an Airflow connection: credentials stay in Airflow's store until a process needs them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

if TYPE_CHECKING:
    from earthself.data.sources import SourceConfig, Sources


class EodagHook(BaseHook):
    """The Earth-observation providers that EODAG searches, in their order, with their credentials.

    Without the connection the settings of EARTHSELF_SOURCES apply, and without those the defaults that need no credentials.
    """

    conn_name_attr = "eodag_conn_id"
    default_conn_name = "eodag_default"
    conn_type = "eodag"
    hook_name = "Earth-observation providers (EODAG)"

    def __init__(self, eodag_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.eodag_conn_id = eodag_conn_id

    def config(self) -> SourceConfig:
        """Read the settings of the connection; raises `BadInput` where a field cannot be read.

        The accounts in it are shared with all workers of this machine, or where EARTHSELF_BROKER says, which steps could not find out by
        themselves.
        """
        return self._config(self._extra())

    async def aconfig(self) -> SourceConfig:
        """Read the settings where nothing may block, as in a trigger."""
        from airflow.sdk.exceptions import AirflowNotFoundException

        try:
            connection = await self.aget_connection(self.eodag_conn_id)
        except AirflowNotFoundException:
            if self.eodag_conn_id != self.default_conn_name:
                raise
            return self._config(None)
        return self._config(dict(connection.extra_dejson))

    def sources(self) -> Sources:
        """Open the door to the providers with these settings."""
        from earthself.data.sources import Sources

        return Sources(self.config())

    def test_connection(self) -> tuple[bool, str]:
        """Say whether the settings can be read; no provider is asked, since that may count against a quota."""
        from earthself.data.errors import EarthSelfError

        try:
            return True, f"providers in this order: {', '.join(self.config().providers)}"
        except EarthSelfError as error:
            return False, str(error)

    @contextmanager
    def settings_file(self) -> Iterator[dict[str, str]]:
        """Environment of a process that needs the settings: they lie in a file of mode 600 that vanishes at the end."""
        with tempfile.TemporaryDirectory(prefix="earthself-sources-") as folder:
            path = Path(folder) / "sources.json"
            path.touch(mode=0o600)
            path.write_text(self.config().to_json(), encoding="utf-8")
            yield {"EARTHSELF_SOURCES": str(path)}

    def _config(self, extra: dict[str, Any] | None) -> SourceConfig:
        from dataclasses import replace

        from earthself.data.broker import Place, shared_folder
        from earthself.data.query import SourceConfig

        fields = None if extra is None else _fields(extra)
        config = SourceConfig.from_env() if fields is None else SourceConfig.from_json(json.dumps(fields))
        team = (fields or {}).get("team") or os.environ.get("EARTHSELF_TEAM") or config.team
        named = config.shared if config.broker else Place.from_env() or Place(str(shared_folder()))
        return replace(config.sharing(named), team=str(team))

    def _extra(self) -> dict[str, Any] | None:
        from airflow.sdk.exceptions import AirflowNotFoundException

        try:
            connection = self.get_connection(self.eodag_conn_id)
        except AirflowNotFoundException:
            if self.eodag_conn_id != self.default_conn_name:
                raise
            return None
        return dict(connection.extra_dejson)


_OBJECTS = {
    "credentials": '{"provider": {"username": "…", "password": "…"}}',
    "limits": '{"provider": {"rate": 10, "bytes_a_month": 1e12, "orders": 20}}',
}
"""Settings that are JSON objects, and how they look."""


def _fields(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Name the form's fields as `SourceConfig` does: the form gives text where the settings are lists and objects."""
    from airflow.sdk.log import mask_secret
    from earthself.data.errors import BadInput

    fields = {name: value for name, value in extra.items() if value not in (None, "")}
    providers = fields.get("providers")
    if isinstance(providers, str):
        fields["providers"] = [name.strip() for name in providers.split(",") if name.strip()]
    for name, example in _OBJECTS.items():
        if isinstance(fields.get(name), str):
            try:
                fields[name] = json.loads(fields[name])
            except ValueError:
                raise BadInput(f"the {name} of the EODAG connection are not JSON; write {example}") from None
    for name in ("credentials", "broker_token"):
        if fields.get(name):
            mask_secret(fields[name])
    return fields
