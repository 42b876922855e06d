"""Taking what waits for a watch: each product once, its area beside it, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import signed
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from earthself.data.area import Area
from earthself.data.reference import Reference
from earthself.operators import NewProductsOperator, catalogs
from earthself.triggers.memory import WAITING, Memory, Sighting
from earthself.triggers.watch import Watch

NOW = datetime.now(UTC)


@pytest.fixture
def waiting(workspace):
    """Two products for the watch `mine`, one for another."""
    with Memory() as memory:
        for watch, names in (("mine", ("P0", "P1")), ("mine2", ("P2",))):
            memory.watch(Watch(watch, Area.from_conf(signed.product("x")["bbox"])), NOW)
            for number, name in enumerate(names):
                at = NOW - timedelta(days=2 - number)
                memory.sight(watch, [Sighting(signed.product(name), WAITING, "", at, at, 10**6)], NOW)


@pytest.fixture
def take(context):
    def taking(run_id: str = "manual__1", **arguments):
        pushed = {}
        around = context()
        around["ti"].run_id = run_id
        around["ti"].xcom_push = lambda key, value: pushed.update({key: value})
        made = NewProductsOperator(task_id="new", **arguments).execute(around)
        catalog = Reference.from_dict(made).path()
        return [item["id"] for item in catalogs.read_items(catalog)], catalogs.area_beside(catalog), pushed

    return taking


def test_a_watch_gives_its_products_newest_first_with_its_area(waiting, take) -> None:
    names, area, pushed = take(watch="mine")
    assert names == ["P1", "P0"]
    assert Area.from_conf(area).geometry.equals(Area.from_conf(signed.product("x")["bbox"]).geometry)
    assert pushed == {"model": "baseline", "mask": "auto"}


def test_a_task_that_is_tried_again_gets_the_same_and_another_run_nothing(waiting, take) -> None:
    first = take(watch="mine2")[0]
    assert take(watch="mine2")[0] == first == ["P2"]
    with pytest.raises(AirflowSkipException, match="no new product waits for nobodys"):
        take(watch="nobodys")


def test_what_a_dead_run_had_is_taken_over_by_the_next_one(waiting, take) -> None:
    assert take("manual__1", watch="mine")[0] == ["P1", "P0"]
    assert take("manual__2", watch="mine")[0] == ["P1", "P0"]
    with pytest.raises(AirflowSkipException):
        take("manual__1", watch="mine2x")


def test_one_of_watch_and_settings_is_needed(take) -> None:
    for wrong in ({}, {"watch": "a", "settings": "b"}):
        with pytest.raises(AirflowFailException, match="either settings"):
            take(**wrong)


def test_without_areas_it_says_how_to_begin(take) -> None:
    with pytest.raises(AirflowSkipException, match="set the Airflow Variable no_such_variable"):
        take(settings="no_such_variable")
