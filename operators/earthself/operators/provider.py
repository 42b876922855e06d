"""What Airflow asks a provider for: connection forms, hooks, operators, extra links."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Entry point `apache_airflow_provider`."""
    return {
        "package-name": "earthself-operators",
        "name": "EarthSelf",
        "description": "Earth-observation workflows: search, EarthSignature, processing steps, published maps",
        "connection-types": [_EODAG, _EARTHSIGNATURE],
        "extra-links": [f"earthself.operators.links.{name}" for name in _LINKS],
    }


_LINKS = ("ReportLink", "MapLink", "QuicklookLink", "ItemLink", "SuggestionLink")

_EODAG = {
    "connection-type": "eodag",
    "hook-class-name": "earthself.hooks.eodag.EodagHook",
    "hook-name": "Earth-observation providers (EODAG)",
    "ui-field-behaviour": {"hidden-fields": ["host", "schema", "login", "password", "port"]},
    "conn-fields": {
        "providers": {
            "label": "Providers",
            "description": "EODAG names by preference, separated by commas. Empty: earth_search, planetary_computer (no credentials).",
            "schema": {"type": ["string", "null"]},
        },
        "provider_config": {
            "label": "Further providers (YAML)",
            "description": "In the format of EODAG's providers.yml.",
            "schema": {"type": ["string", "null"], "format": "multiline"},
        },
        "credentials": {
            "label": "Credentials (JSON)",
            "description": '{"cop_dataspace": {"username": "…", "password": "…"}}; stored encrypted.',
            "schema": {"type": ["string", "null"], "format": "password"},
        },
        "limits": {
            "label": "Limits of the accounts (JSON)",
            "description": '{"cop_dataspace": {"rate": 10, "connections": 4, "bytes_a_month": 6e12, "orders": 20}}; '
            "all workers together keep to them.",
            "schema": {"type": ["string", "null"], "format": "multiline"},
        },
        "team": {
            "label": "Team",
            "description": "Who shares the accounts with other teams. Empty: EARTHSELF_TEAM, else default.",
            "schema": {"type": ["string", "null"]},
        },
        "broker": {
            "label": "Download broker",
            "description": "Address of the service that shares the accounts. Empty: EARTHSELF_BROKER, else a folder of the machine.",
            "schema": {"type": ["string", "null"]},
        },
        "broker_token": {
            "label": "Token of the download broker",
            "description": "Stored encrypted.",
            "schema": {"type": ["string", "null"], "format": "password"},
        },
    },
}

_EARTHSIGNATURE = {
    "connection-type": "earthsignature",
    "hook-class-name": "earthself.hooks.earthsignature.EarthSignatureHook",
    "hook-name": "EarthSignature",
    "ui-field-behaviour": {
        "hidden-fields": ["schema", "login"],
        "relabeling": {"password": "Token"},
        "placeholders": {"host": "127.0.0.1", "port": "50051"},
    },
    "conn-fields": {
        "tls": {"label": "TLS", "description": "Encrypt the connection.", "schema": {"type": ["boolean", "null"], "default": False}},
        "tls_ca": {
            "label": "Authorities",
            "description": "File on the workers (PEM) of the authorities to trust, where the server's certificate is of your own.",
            "schema": {"type": ["string", "null"]},
        },
    },
}
