"""What alerts and dashboards ask of Prometheus: their expressions, and the names in these."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/earthself"
_KNOWN = frozenset(
    "absent and by histogram_quantile humanize increase max min offset on or rate sum time unless vector without".split()  # noqa: SIM905 - a list of words
)
"""Functions and words of the language."""


def rules() -> dict[str, dict]:
    """All alerts, by name."""
    groups = [group for path in sorted(CHART.glob("alerts/*.yaml")) for group in yaml.safe_load(path.read_text())["groups"]]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def panels() -> dict[str, dict]:
    """All panels, by dashboard and title."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(CHART.glob("dashboards/*.json"))}
    return {f"{name}: {panel['title']}": panel for name, board in found.items() for panel in board["panels"]}


def expressions() -> dict[str, str]:
    """Every expression, by where it stands."""
    asked = {f"{title} {target['refId']}": target["expr"] for title, panel in panels().items() for target in panel["targets"]}
    return asked | {name: rule["expr"] for name, rule in rules().items()}


def names(expression: str) -> set[str]:
    """The metrics that an expression asks for."""
    bare = re.sub(r'"(?:\\.|[^"\\])*"', " ", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on)\s*\([^)]*\)", " ", bare)
    return set(re.findall(r"\b[a-zA-Z_:][a-zA-Z0-9_:]*", bare)) - _KNOWN


def sample_names(text: str) -> set[str]:
    """The names of samples that an exposition's families have, also of those that have no sample yet."""
    suffixes = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    return {name + suffix for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE) for suffix in suffixes[kind]}
