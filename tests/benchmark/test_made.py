"""Hosts and clusters that commands make: the commands are real, what they make is a file."""

from __future__ import annotations

import pytest
from earthself.benchmark.errors import BadSetting
from earthself.benchmark.probes import probes
from earthself.benchmark.probing import Run, Setting
from earthself.benchmark.samples import FAILED
from earthself.benchmark.step import SETTINGS


@pytest.fixture(params=["host", "cluster"])
def ready(request, tmp_path):
    """Measure once with these commands."""
    kind = request.param

    def measure(make, remove):
        said = {f"make_{kind}": make and make.format(tmp_path), f"remove_{kind}": remove and remove.format(tmp_path)}
        return list(Run({}, Setting(tmp_path, **said), 2).samples(probes([f"ready_{kind}"])))

    return measure


def test_it_is_measured_until_the_command_ends_and_then_removed(ready, tmp_path):
    found = ready("sh -c 'sleep 0.2; mkdir {0}/made'", "rmdir {0}/made")
    assert [one.metric for one in found] == ["ready", "ready"], found
    assert all(one.value >= 0.2 for one in found)
    assert "mkdir" in found[0].labels["made_by"]
    assert not (tmp_path / "made").exists()


def test_what_was_made_by_half_is_removed_too(ready, tmp_path):
    (found,) = ready("sh -c 'mkdir {0}/made; echo no quota >&2; exit 3'", "rmdir {0}/made")
    assert found.metric == FAILED
    assert "no quota" in found.labels["error"]
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("make", ["true", "false"])
def test_what_cannot_be_removed_is_said_to_cost_money(ready, make):
    (found,) = ready(make, "sh -c 'echo busy >&2; exit 1'")
    assert "may still be there, and cost money" in found.labels["error"]
    assert "busy" in found.labels["error"]


def test_without_a_command_to_remove_it_nothing_is_made(ready, tmp_path):
    with pytest.raises(BadSetting, match="--remove-"):
        ready("mkdir {0}/made", None)
    with pytest.raises(BadSetting, match="cannot be read"):
        ready("mkdir {0}/made", "rmdir 'x")
    assert not (tmp_path / "made").exists()


def test_no_run_of_a_workflow_can_give_commands():
    assert not [each.name for each in SETTINGS if each.name.startswith(("make_", "remove_"))]
