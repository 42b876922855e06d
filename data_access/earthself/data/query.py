"""What is asked of the catalogues and what comes back: the records of `earthself.data.sources`, free of heavy imports."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from earthself.data.area import Area
from earthself.data.broker import Account, Limits, Place, shared_folder
from earthself.data.dates import parse_period
from earthself.data.errors import BadInput, NotThere

DEFAULT_PROVIDERS = ("earth_search", "planetary_computer")
"""Asked in this order when nothing is configured: both serve Sentinel-2 L2A as COGs without credentials."""

DEFAULT_LIMITS = {"cop_dataspace": Limits(rate=10, connections=4), "dedl": Limits(rate=4)}
"""What providers grant to an account where the settings say nothing else."""

DEFAULT_COLLECTION = "S2_MSI_L2A"
DEFAULT_CLOUD_COVER = 60.0


@dataclass(frozen=True)
class SourceConfig:
    """Which providers are asked, in which order, with which credentials."""

    providers: tuple[str, ...] = DEFAULT_PROVIDERS
    """EODAG provider names, the first one preferred; the next one is asked when one fails."""
    provider_config: str = ""
    """YAML in the format of EODAG's providers.yml: further providers, or other settings of bundled ones."""
    credentials: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    """Per provider what EODAG calls its credentials, such as `username` and `password`, `apikey`. Never printed."""
    timeout: float = 30.0
    """Seconds without a byte after which a request counts as stalled."""
    attempts: int = 4
    """How often a request is made at most before the provider counts as failing."""
    team: str = "default"
    """Who shares the provider accounts with other teams of the machine."""
    limits: Mapping[str, Limits] = field(default_factory=dict)
    """Per provider what it grants to the account, instead of `DEFAULT_LIMITS`."""
    broker: str = ""
    """Folder in which the workers of the machine share the accounts, or address of the service that shares them in a cluster; empty shares
    nothing with other processes."""
    broker_token: str = field(default="", repr=False)
    """Token that the service asks for. Never printed."""
    broker_ca: str = field(default="", repr=False)
    """Certificates (PEM) that the service's own is to be of; empty trusts those that the machine trusts."""

    def account(self, provider: str) -> Account:
        """The account that requests to a provider are made with; raises `BadInput` for a team that is no name."""
        credentials = self.credentials.get(provider)
        secret = json.dumps(dict(credentials), sort_keys=True) if credentials else ""
        return Account(provider, secret, self.team, self.limits.get(provider) or DEFAULT_LIMITS.get(provider) or Limits())

    @property
    def shared(self) -> Place:
        """The broker that shares the accounts."""
        return Place(self.broker, self.broker_token, self.broker_ca)

    def sharing(self, place: Place) -> SourceConfig:
        """The same settings with another broker."""
        return replace(self, broker=place.where, broker_token=place.token, broker_ca=place.authorities)

    @classmethod
    def from_json(cls, text: str | bytes) -> SourceConfig:
        """Read what `to_json` wrote; raises `BadInput` for anything else."""
        try:
            value = json.loads(text)
            return cls(
                providers=tuple(_strings(value.get("providers", DEFAULT_PROVIDERS), "providers")),
                provider_config=str(value.get("provider_config") or ""),
                credentials={str(p): {str(k): str(v) for k, v in c.items()} for p, c in (value.get("credentials") or {}).items()},
                timeout=float(value.get("timeout", cls.timeout)),
                attempts=int(value.get("attempts", cls.attempts)),
                team=str(value.get("team") or cls.team),
                limits={str(p): Limits.from_dict(limits) for p, limits in (value.get("limits") or {}).items()},
                broker=str(value.get("broker") or ""),
                broker_token=str(value.get("broker_token") or ""),
                broker_ca=str(value.get("broker_ca") or ""),
            )
        except (ValueError, TypeError, AttributeError) as error:
            # The text may hold a secret: it is not quoted.
            what = type(error).__name__
            raise BadInput(
                f"the provider settings cannot be read ({what}): they are JSON with providers, provider_config, credentials, limits"
            ) from None

    @classmethod
    def from_env(cls) -> SourceConfig:
        """The settings in the file that EARTHSELF_SOURCES names, or the defaults when it names none."""
        named = os.environ.get("EARTHSELF_SOURCES")
        if not named:
            here = Place(str(shared_folder()) if os.environ.get("EARTHSELF_HOME") else "")
            return cls(team=os.environ.get("EARTHSELF_TEAM") or cls.team).sharing(Place.from_env() or here)
        path = Path(named)
        if not path.is_file():
            raise NotThere(f"EARTHSELF_SOURCES names {path}, which does not exist; unset it to use the default providers")
        found = path.stat()
        # A Secret in a pod is owned by root and readable by the pod's own group only.
        others = stat.S_IRWXO | (stat.S_IRWXG if found.st_uid == os.getuid() else 0)
        if found.st_mode & others:
            raise BadInput(f"{path} can be read by others and may hold credentials; run chmod 600 on it")
        return cls.from_json(path.read_bytes())

    def to_json(self) -> str:
        """Everything, credentials included: write it only to a file of mode 600."""
        return json.dumps(
            {
                "providers": list(self.providers),
                "provider_config": self.provider_config,
                "credentials": {p: dict(c) for p, c in self.credentials.items()},
                "timeout": self.timeout,
                "attempts": self.attempts,
                "team": self.team,
                "limits": {p: asdict(limits) for p, limits in self.limits.items()},
                "broker": self.broker,
                "broker_token": self.broker_token,
                "broker_ca": self.broker_ca,
            }
        )


@dataclass(frozen=True)
class SearchRequest:
    """What to look for."""

    area: Area
    """Products must intersect it."""
    start: datetime
    """First instant of the period, in UTC; RFC 3339 text is read too."""
    end: datetime
    """First instant after the period, in UTC; RFC 3339 text is read too."""
    collection: str = DEFAULT_COLLECTION
    """EODAG collection id."""
    provider: str | None = None
    """EODAG provider to ask, or None for the configured order with fallback."""
    max_cloud_cover: float | None = DEFAULT_CLOUD_COVER
    """Percent of the product under cloud, 0 to 100; None does not filter."""
    limit: int | None = None
    """How many products to give at most; None gives all."""

    def __post_init__(self) -> None:
        start, end = parse_period(self.start, self.end)
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "end", end)
        cover = self.max_cloud_cover
        if cover is not None and (isinstance(cover, bool) or not isinstance(cover, (int, float)) or not 0 <= cover <= 100):
            raise BadInput(f"max_cloud_cover {cover!r} is not a percentage; give a number from 0 to 100")
        if self.limit is not None and self.limit < 1:
            raise BadInput(f"limit {self.limit} finds nothing; give at least 1")

    @classmethod
    def from_conf(cls, conf: Mapping[str, Any], limit: int | None = None) -> SearchRequest:
        """Read the search part of a workflow's conf: area, start, end, collection, provider, max_cloud_cover."""
        missing = [key for key in ("area", "start", "end") if conf.get(key) is None]
        if missing:
            raise BadInput(f"the request lacks {', '.join(missing)}; area, start and end are needed")
        cover = conf.get("max_cloud_cover", DEFAULT_CLOUD_COVER)
        start, end = parse_period(conf["start"], conf["end"])
        return cls(
            area=Area.from_conf(conf["area"]),
            start=start,
            end=end,
            collection=str(conf.get("collection") or DEFAULT_COLLECTION),
            provider=conf.get("provider") or None,
            max_cloud_cover=cover,
            limit=limit,
        )


@dataclass(frozen=True)
class Found:
    """What a search gave."""

    items: list[dict[str, Any]]
    """STAC items, newest first, one per observation (and part), with `earthself:*` properties and assets keyed by band."""
    superseded: list[dict[str, Any]]
    """STAC items of older copies or reprocessings of observations in `items`; `earthself:superseded_by` names the one used."""
    provider: str
    """The provider that answered."""
    warnings: list[str]
    """What a person should know: providers that failed, mixed baselines, superseded products."""
    number_matched: int | None
    """How many products the provider says match, before copies were set aside; None where it does not say."""


@dataclass(frozen=True)
class Count:
    """How much a search would give, known from one small request."""

    products: int
    """Number of products, copies included."""
    estimated_bytes: int
    """What reading them whole would move, from the sizes that the first page states or a typical product's."""
    provider: str = ""
    """The provider that answered."""
    warnings: tuple[str, ...] = ()
    """Providers that failed before."""
    window_m2: float = 0.0
    """Mean size of the window that the area needs of a product, square metres, after the first page; 0 where nothing was found."""


def _strings(value: Any, what: str) -> list[str]:  # noqa: ANN401
    if isinstance(value, str) or not all(isinstance(v, str) and v for v in value):
        raise BadInput(f"{what} {value!r} is not a list of names")
    return list(value)


__all__ = ["DEFAULT_CLOUD_COVER", "DEFAULT_COLLECTION", "DEFAULT_PROVIDERS", "Count", "Found", "SearchRequest", "SourceConfig"]
