"""What to do about a result that is empty or has holes: the server says what happened, this says what it probably means."""

from __future__ import annotations

from typing import Any

from earthself.client import land, requests
from earthself.client.errors import ClientError
from earthself.client.rest import Rest

_SAMPLE = "sample"
"""Name of the provider that the local stack brings along."""


def advice(rest: Rest, conf: dict[str, Any], result: dict[str, Any]) -> list[str]:
    """Return sentences for a person about a run with this conf and result; none for a complete one."""
    products = result.get("products") or {}
    if result.get("status") == "empty":
        return nothing_found(rest, conf)
    said = []
    if failed := products.get("failed"):
        again = any(loss.get("retry") for loss in failed)
        hint = "run the same request again: only the missing ones are processed" if again else "their errors say why"
        said.append(f"{len(failed)} of {products.get('found', len(failed))} products are missing from the map; {hint}")
    if (observed := result.get("observed_fraction")) is not None and observed < 0.5:
        share = f"only {observed:.0%}" if observed >= 0.01 else "less than 1%"
        said.append(f"{share} of the area was observed; a longer period or a higher max_cloud_cover may fill the rest")
    return said


def nothing_found(rest: Rest, conf: dict[str, Any]) -> list[str]:
    """Find out why no product matches: clouds, the sea, swapped coordinates, or no scenes at all."""
    period = f"from {conf.get('start')} to {conf.get('end')}"
    cover = conf.get("max_cloud_cover", 60)
    cloudy, provider = _with_any_cloud(rest, conf)
    if cloudy:
        sentence = (
            f"no scene {period} has at most {cover:g} % clouds, but {cloudy} cloudier {'one exists' if cloudy == 1 else 'ones exist'}; "
            "raise max_cloud_cover (clouds are masked pixel by pixel), or take a longer period"
        )
        return [sentence]
    said = [f"no scene was found {period}; take a longer period, or another provider"]
    if provider == _SAMPLE:
        said.append(
            "only the sample was asked, which has 13 June 2017 and a few places near 12.9 E, 48.0 N; "
            "name a live provider, such as --provider earth_search (no credentials needed)"
        )
    area = conf.get("area")
    if area:
        longitude, latitude = requests.centre(area)
        if not land.near(longitude, latitude):
            where = f"{abs(latitude):.1f} {'N' if latitude >= 0 else 'S'}, {abs(longitude):.1f} {'E' if longitude >= 0 else 'W'}"
            said.append(
                f"the area seems to lie in the open sea ({where}), where there is no land cover and Sentinel-2 takes hardly any image "
                "(a coarse world map says so, which lacks small islands)"
            )
            if abs(longitude) <= 90 and land.near(latitude, longitude):
                said.append("with longitude and latitude swapped it would lie on land; longitude comes first")
    return said


def _with_any_cloud(rest: Rest, conf: dict[str, Any]) -> tuple[int, str]:
    """Return how many products there are whatever their clouds, and which provider says so."""
    try:
        answer = rest.post("/earthself/api/v1/estimate", {**conf, "max_cloud_cover": 100})
        return int(answer.get("products", 0)), str(answer.get("provider", ""))
    except (ClientError, TypeError, ValueError):
        return 0, ""  # advice is no reason to fail
