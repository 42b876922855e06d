"""The report of a run as one HTML file: no scripts, nothing loaded from elsewhere, every text escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.operators.facts import NO_CLASS, UNOBSERVED

if TYPE_CHECKING:
    from earthself.operators.facts import Facts, Row

_GREY, _PALE = "#9aa5b1", "#f7f7f7"
_BAR = 520
"""Width of the longest bar of the chart, in pixels of the drawing."""
_SHOWN_ABOVE = ("area", "title", "model", "start", "end")
_MOST_PRODUCTS = 500
"""Products listed one by one; the manifest has them all."""


@dataclass(frozen=True)
class Bar:
    """One row of the chart and the table."""

    row: Row
    """Its figures."""
    color: str
    """`#rrggbb` of the legend."""
    width: float
    """Pixels."""
    low: float | None
    """Where the interval begins, pixels."""
    high: float | None
    """Where it ends, pixels."""


def html(known: Facts, result: Mapping[str, Any], folder: Path) -> str:
    """Render the report; `folder` holds the files that are published with it."""
    import jinja2
    from earthself.operators.links import map_address

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"percent": _percent, "hectares": _hectares, "seconds": _seconds}
    template = environment.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8"))
    picture = folder / "quicklook.png"
    return template.render(
        title=known.request.get("title") or "Land cover",
        known=known,
        result=result,
        request=known.request,
        bars=_bars(known),
        estimated=any(row.low is not None for row in known.rows),
        picture=base64.b64encode(picture.read_bytes()).decode() if picture.is_file() else None,
        map_address=map_address(known.run.dag_id, known.run.run_id) if known.land_cover is not None else None,
        worth=_worth(known),
        scores=_scores(known.model_card),
        limits=known.model_card.get("limits", []),
        products=known.products[:_MOST_PRODUCTS],
        parameters=_parameters(known.request),
        years=_years(known),
        code=_code(),
    )


def _bars(known: Facts) -> list[Bar]:
    from earthself.data.legends import legend

    colors = {entry.code: entry.color for entry in legend(known.legend).entries} if known.legend else {}
    colors |= {NO_CLASS: _PALE, UNOBSERVED: _GREY}
    longest = max([row.high or row.hectares for row in known.rows] or [1.0]) or 1.0
    scale = _BAR / longest
    rows = sorted(known.rows, key=lambda row: (row.code <= NO_CLASS, row.code == UNOBSERVED, -row.hectares))
    return [
        Bar(
            row,
            colors.get(row.code, _GREY),
            row.hectares * scale,
            None if row.low is None else row.low * scale,
            None if row.high is None else row.high * scale,
        )
        for row in rows
    ]


def _worth(known: Facts) -> list[str]:
    """Say in sentences how far the map can be trusted."""
    if known.land_cover is None:
        return []
    level = known.validated_level
    estimates = any(row.low is not None for row in known.rows)
    said = [
        f"The codes are CORINE codes of level {level}, the level at which the model is validated; finer classes are not claimed.",
        "The areas are error-adjusted estimates with 95 % intervals, from validation samples."
        if estimates
        else "The areas are mapped areas, not estimates: they count pixels, with the errors that the model makes.",
    ]
    masks = {
        "scl": "the scene classification of the products (SCL)",
        "csmask": "the csmask model",
        "none": "nothing: clouds are in the map",
    }
    said.append("Clouds were found by " + " and ".join(masks.get(mask, mask) for mask in known.masks) + ".")
    said.append(f"{known.observed_fraction:.1%} of the area was seen at least once without cloud, shadow or snow.")
    return said


def _scores(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Flatten the model card's summary of its scores (or all of them) to what fits a table: a name and a text each, at most 24."""
    found: list[tuple[str, str]] = []

    def walk(name: str, value: Any) -> None:  # noqa: ANN401 - JSON
        if isinstance(value, Mapping) and set(value) == {"value", "95 % interval"}:
            low, high = value["95 % interval"]
            found.append((name, f"{value['value']:.2f} ({low:.2f} to {high:.2f})"))
        elif isinstance(value, Mapping):
            for key, inner in value.items():
                walk(f"{name}, {key}" if name else str(key), inner)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found.append((name.replace("_", " "), f"{value:.3g}"))
        elif isinstance(value, list) and len(value) == 2 and all(isinstance(each, (int, float)) for each in value):
            found.append((name.replace("_", " "), f"{value[0]:.3g} to {value[1]:.3g}"))

    scores = card.get("scores", {})
    walk("", scores.get("summary", scores))
    return found[:24]


def _parameters(request: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in request.items() if name not in _SHOWN_ABOVE and value is not None]


def _years(known: Facts) -> str:
    years = sorted({product.observed[:4] for product in known.products if product.observed})
    return years[0] if len(years) == 1 else f"{years[0]}-{years[-1]}" if years else ""


def _code() -> list[tuple[str, str]]:
    from earthself.data.manifest import code_commit, code_versions

    commit = code_commit()
    versions = ", ".join(f"{name.removeprefix('earthself-')} {version}" for name, version in code_versions().items())
    return [("EarthSelf", versions), *([("commit", commit)] if commit else [])]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _hectares(value: float) -> str:
    return f"{value:,.1f}".replace(",", "\u202f")


def _seconds(value: float) -> str:
    return f"{value:.1f} s"
