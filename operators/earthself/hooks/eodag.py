"""Provider settings from an Airflow connection: credentials stay in Airflow's store until a process needs them."""

from __future__ import annotations

import json
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
        """Read the settings of the connection; raises `BadInput` where a field cannot be read."""
        from earthself.data.query import SourceConfig

        extra = self._extra()
        if extra is None:
            return SourceConfig.from_env()
        return SourceConfig.from_json(json.dumps(_fields(extra)))

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

    def _extra(self) -> dict[str, Any] | None:
        from airflow.sdk.exceptions import AirflowNotFoundException

        try:
            connection = self.get_connection(self.eodag_conn_id)
        except AirflowNotFoundException:
            if self.eodag_conn_id != self.default_conn_name:
                raise
            return None
        return dict(connection.extra_dejson)


def _fields(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Name the form's fields as `SourceConfig` does: the form gives text where the settings are lists and objects."""
    from airflow.sdk.log import mask_secret
    from earthself.data.errors import BadInput

    fields = {name: value for name, value in extra.items() if value not in (None, "")}
    providers = fields.get("providers")
    if isinstance(providers, str):
        fields["providers"] = [name.strip() for name in providers.split(",") if name.strip()]
    credentials = fields.get("credentials")
    if isinstance(credentials, str):
        try:
            fields["credentials"] = json.loads(credentials)
        except ValueError:
            raise BadInput(
                'the credentials of the EODAG connection are not JSON; write {"provider": {"username": "…", "password": "…"}}'
            ) from None
    if fields.get("credentials"):
        mask_secret(fields["credentials"])
    return fields
