"""Which EODAG providers the stack's workflows use: the sample on loopback, and what the user wrote into `sources.json`."""

from __future__ import annotations

import json
from typing import Any

from earthself.local.errors import BadSetting
from earthself.local.home import Home
from earthself.local.settings import HOST, Settings

SAMPLE_PROVIDER = "sample"

_SAMPLE_YAML = """\
{name}:
  description: The sample of EarthSelf, 21 real Sentinel-2 patches
  url: http://{host}:{port}
  search:
    type: StacSearch
    api_endpoint: http://{host}:{port}/search
    need_auth: false
    discover_collections:
      fetch_url: null
    discover_queryables:
      fetch_url: null
      collection_fetch_url: null
  products:
    S2_MSI_L2A:
      _collection: sentinel-2-l2a
  download:
    type: HTTPDownload
    extract: false
"""


def eodag_connection(settings: Settings, home: Home) -> dict[str, Any]:
    """Return the Airflow connection `eodag_default` as Airflow reads it from JSON.

    `sources.json` in the home may hold `providers` (list, tried in this order), `provider_config` (EODAG's YAML for
    providers of one's own), `credentials` (provider -> {key: value}) and `limits` (provider -> {rate, bytes_a_month, orders});
    `EARTHSELF_PROVIDERS` overrides the order.
    """
    own = _own(home)
    sample = _SAMPLE_YAML.format(name=SAMPLE_PROVIDER, host=HOST, port=settings.sample_port)
    config = "\n".join(filter(None, [sample, own.get("provider_config")]))
    providers = list(settings.providers or own.get("providers") or [SAMPLE_PROVIDER])
    return {
        "conn_type": "eodag",
        "extra": {
            "providers": providers,
            "provider_config": config,
            "credentials": own.get("credentials", {}),
            "limits": own.get("limits", {}),
        },
    }


def _own(home: Home) -> dict[str, Any]:
    if not home.sources_file.exists():
        return {}
    home.sources_file.chmod(0o600)  # it may hold credentials
    try:
        content = json.loads(home.sources_file.read_text())
    except ValueError as error:
        raise BadSetting(f"{home.sources_file} is not JSON ({error}); correct it or move it away") from error
    known = {"providers": list, "provider_config": str, "credentials": dict, "limits": dict}
    if not isinstance(content, dict) or any(not isinstance(content.get(key, kind()), kind) for key, kind in known.items()):
        raise BadSetting(
            f"{home.sources_file} must be an object with providers (list), provider_config (text), credentials, limits (objects)"
        )
    if unknown := sorted(set(content) - set(known)):
        raise BadSetting(f"{home.sources_file} has the key {unknown[0]!r}; known are {', '.join(known)}")
    return content
