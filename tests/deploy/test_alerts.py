"""Alerts that Prometheus takes, that fire when they should, and that each say what to do with commands that exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.deploy.promql import CHART, ROOT, expressions, names, rules

sys.path.insert(0, str(Path(__file__).parents[1] / "operators"))
import airflow_sandbox  # noqa: F401 - Airflow's commands are asked for below

HOW_TO_GET = "no promtool; get it with: apt-get install prometheus"
RUNBOOKS = sorted((ROOT / "docs/runbooks").glob("*.md"))


@pytest.fixture
def promtool():
    found = shutil.which("promtool")
    if found is None:
        pytest.skip(HOW_TO_GET)

    def run(*arguments: str) -> str:
        ended = subprocess.run([found, *arguments], capture_output=True, text=True, check=False, timeout=60)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    return run


def test_prometheus_takes_every_rule(promtool) -> None:
    said = promtool("check", "rules", *map(str, sorted(CHART.glob("alerts/*.yaml"))))
    assert sum(map(int, re.findall(r"(\d+) rules found", said))) == len(rules()) > 20


def test_prometheus_takes_every_expression_of_a_dashboard(promtool, tmp_path) -> None:
    asked = [{"record": f"r{number}", "expr": expression} for number, expression in enumerate(expressions().values())]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": asked}]}))
    promtool("check", "rules", str(tmp_path / "rules.yaml"))


def test_alerts_fire_when_they_should_and_not_before(promtool, tmp_path) -> None:
    cases = yaml.safe_load((Path(__file__).parent / "alert_cases.yaml").read_text())
    assert {name.partition(",")[0] for name in cases} == set(rules()), "each alert has its case"
    bare = [{key: value for key, value in rule.items() if key != "annotations"} for rule in rules().values()]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": bare}]}))
    document = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [_case(name.partition(",")[0], **case) for name, case in cases.items()],
    }
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(document))
    promtool("test", "rules", str(tmp_path / "cases.yaml"))


def _case(alert: str, series: dict[str, str], quiet: str, fires: str, labels: dict[str, str] | None = None) -> dict:
    expected = [{"exp_labels": {**(labels or {}), "severity": rules()[alert]["labels"]["severity"]}}]
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": quiet, "alertname": alert, "exp_alerts": []},
            {"eval_time": fires, "alertname": alert, "exp_alerts": expected},
        ],
    }


@pytest.mark.parametrize("alert", rules())
def test_each_alert_has_its_page(alert: str) -> None:
    rule = rules()[alert]
    page = ROOT / rule["annotations"]["runbook"]
    assert f"`{alert}`" in page.read_text().splitlines()[1], f"{page.name} does not name it"
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]


def test_each_page_belongs_to_an_alert() -> None:
    assert {ROOT / rule["annotations"]["runbook"] for rule in rules().values()} == set(RUNBOOKS)


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda path: path.stem)
def test_each_page_says_what_it_means_how_to_see_it_and_what_to_do(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["What it means", "See", "Do"]
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (page.parent / link).is_file(), link


def commands() -> list[tuple[str, ...]]:
    """Every command of the pages, without the part that says in which pod it runs."""
    lines = [
        line for page in RUNBOOKS for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL) for line in block.splitlines()
    ]
    return sorted({tuple(shlex.split(re.sub(r"^kubectl exec \S+ -- ", "", line))) for line in lines})


def exists(words: tuple[str, ...]) -> bool:
    """Whether a program knows a command with its options."""
    match words[:3]:
        case ("kubectl", verb, *_):
            return verb in ("get", "logs", "describe", "auth")
        case ("airflow", *_):
            from airflow.cli.cli_parser import get_parser

            return bool(get_parser().parse_args(list(words[1:])))
        case ("earthself", name, *_):
            return _has_options(words, "earthself.client.cli", name)
        case ("earthsignature", name, *_):
            return _has_options(words, "earthself.signature.cli", name)
        case ("python", "-m", "earthself.data.broker"):
            return words[3:] == ("status",)
    return words == ("df", "-h")


def _has_options(words: tuple[str, ...], module: str, name: str) -> bool:
    """Ask the program itself for its help."""
    program = f"import sys; sys.argv = ['x', {name!r}, '--help']; from {module} import main; main()"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    return ended.returncode == 0 and all(word in ended.stdout for word in words[2:] if word.startswith("--"))


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_of_the_pages_exist(words: tuple[str, ...]) -> None:
    assert exists(words)


def test_names_are_found_wherever_they_stand() -> None:
    asked = 'sum by (a_b) (max without (x) (rate(one_total{c="two_total"}[5m]))) / on (i) three and four > 6 * 3600'
    assert names(asked) == {"one_total", "three", "four"}
