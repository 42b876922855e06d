"""What a request is told that it will cost, before and after there is history."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import earthself.data.database
import pytest
import sqlalchemy as sa
from earthself.data.area import Area
from earthself.data.query import Count
from earthself.operators import estimate, workers
from earthself.operators.errors import BadRequest
from earthself.operators.history import HEAD, RUN, History, HistoryBroken, Record

AREA = [14.0, 48.0, 14.1, 48.1]
CONF = {"area": AREA, "start": "2017-06-01", "end": "2017-07-01", "collection": "S2_MSI_L2A", "provider": None, "max_cloud_cover": 60}


class Provider:
    """Counts as a provider would."""

    def __init__(self, products: int, size: int = 1_000_000_000, window_m2: float = 2e8) -> None:
        self._count = Count(products, products * size, "p", ("q was down",), window_m2 if products else 0.0)

    def count(self, _request):
        return self._count


def record(**changes) -> Record:
    usual = {"step": "sign", "version": "1", "dag_id": "d", "run_id": "r", "products": 5, "pixels": 10_000_000, "bytes_read": 150_000_000}
    return Record(**{**usual, "seconds": 30.0, "cpu_seconds": 40.0, "peak_memory": 10**9, **changes})


def a_run(number: int, window_m2: float = 2e8) -> Record:
    """A run of the area of `CONF`."""
    work = estimate.work_of(Count(1, 0, window_m2=window_m2), Area.from_conf(AREA))
    guess = {"guessed_pixels": round(1e6 * work.megapixels), "area_pixels": round(1e6 * work.area_megapixels)}
    return record(step=RUN, run_id=f"r{number}", **guess)


def test_the_first_estimate_says_that_it_is_a_guess(workspace):
    found = estimate.estimate(CONF, Provider(10))
    assert found.products == 10
    assert found.gigabytes == 10
    assert 0 < found.gigabytes_needed < 10, "windows of a small area are less than whole products"
    assert found.minutes_low == pytest.approx(found.minutes / 3, abs=0.02)
    assert found.minutes_high == pytest.approx(found.minutes * 3, abs=0.02)
    assert "no earlier run" in found.basis
    assert "a megapixel" in found.basis
    assert "10 products" in str(found)
    assert found.warnings == ("q was down",)


def test_more_products_take_longer_but_a_known_start_remains(workspace):
    none, few, many = (estimate.estimate(CONF, Provider(products)) for products in (0, 5, 500))
    assert 0 < none.minutes < few.minutes < many.minutes
    assert many.cpu_minutes > 50 * few.cpu_minutes


def test_history_sets_the_scale_and_the_range(workspace):
    before = estimate.estimate(CONF, Provider(20))
    with History() as history:
        for number, slow in enumerate((1.8, 2.0, 2.0, 2.0, 2.4)):
            history.add(record(cpu_seconds=slow * estimate.step_model(record())))
            one = a_run(number)
            work = estimate.run_work(one)
            history.replace(replace(one, seconds=slow * work.wall(), cpu_seconds=slow * work.cpu(), bytes_read=round(15 * work.pixels())))
    after = estimate.estimate(CONF, Provider(20))
    assert after.minutes == pytest.approx(2 * before.minutes, rel=0.01)
    assert after.cpu_minutes == pytest.approx(2 * before.cpu_minutes, rel=0.01)
    assert before.minutes * 1.8 < after.minutes_low < after.minutes < after.minutes_high < before.minutes * 2.4
    assert "5 earlier batches and 5 earlier runs" in after.basis
    assert after.gigabytes_needed == pytest.approx(before.gigabytes_needed * 15 / 12, rel=0.01), "15 bytes a pixel were read"


def test_steps_alone_set_the_scale_of_the_processor_and_the_bytes(workspace):
    before = estimate.estimate(CONF, Provider(20))
    with History() as history:
        history.add(record(cpu_seconds=2 * estimate.step_model(record())))
    after = estimate.estimate(CONF, Provider(20))
    assert after.cpu_minutes == pytest.approx(2 * before.cpu_minutes, rel=0.01)
    assert after.gigabytes_needed == pytest.approx(before.gigabytes_needed * 15 / 12, rel=0.01)


def test_the_same_request_is_told_what_it_took_before(workspace):
    """Products that are much smaller than the area are signed quicker than the rough model thinks."""
    took = (39.9, 50.3, 62.2)
    with History() as history:
        for number, seconds in enumerate(took):
            history.add(record(products=2, pixels=700_000, cpu_seconds=2.5, bytes_read=500_000))
            history.add(record(products=2, pixels=700_000, cpu_seconds=2.5, bytes_read=500_000))
            history.replace(replace(a_run(number), products=4, pixels=1_400_000, seconds=seconds, cpu_seconds=11.0, bytes_read=1_000_000))
    found = estimate.estimate(CONF, Provider(4))
    assert found.minutes == pytest.approx(50.3 / 60, abs=0.01)
    assert 39.9 / 60 < found.minutes_low < found.minutes < found.minutes_high < 62.2 / 60
    assert found.cpu_minutes == pytest.approx(11 / 60, abs=0.01)
    assert found.gigabytes_needed == 0.001


def test_small_products_in_a_large_area_are_not_taken_for_whole_tiles(workspace):
    conf = CONF | {"area": [0, 0, 9, 9]}
    few = estimate.estimate(conf, Provider(3, 10**6, window_m2=4e6))
    assert few.cpu_minutes < 20, "the area is mostly empty"
    assert few.gigabytes_needed <= 0.003
    assert estimate.estimate(conf, Provider(3, window_m2=1.2e10)).cpu_minutes > few.cpu_minutes + 5


def test_nothing_costs_nothing_but_the_tasks(workspace):
    found = estimate.estimate(CONF | {"area": [0, 0, 9, 9]}, Provider(0))
    assert (found.gigabytes, found.gigabytes_needed, found.cpu_minutes) == (0, 0, 0)
    assert found.minutes < 0.2


def test_a_run_whose_area_is_not_known_is_left_out(workspace):
    before = estimate.estimate(CONF, Provider(4))
    with History() as history:
        history.add(record(step=RUN, seconds=10_000.0))
    assert estimate.estimate(CONF, Provider(4)).minutes == before.minutes


def test_a_database_of_before_keeps_its_rows(tmp_path, monkeypatch):
    from alembic import command

    upgrade = command.upgrade
    monkeypatch.setattr(command, "upgrade", lambda config, _: upgrade(config, "0001"))
    with History(f"sqlite:///{tmp_path}/h.db"):
        pass
    with closing(sqlite3.connect(tmp_path / "h.db")) as connection, connection:
        connection.execute("INSERT INTO step_history VALUES (1, '2026-01-01 00:00:00', 'sign', '', 'd', 'r', 1, 2, 3, 4.0, 5.0, 6)")
    monkeypatch.undo()
    with History(f"sqlite:///{tmp_path}/h.db") as history:
        assert history.recent("sign") == [Record("sign", "", "d", "r", 1, 2, 3, 4.0, 5.0, 6)]
        history.replace(a_run(1))
        assert history.recent(RUN)[0].area_pixels == a_run(1).area_pixels


def test_two_runs_are_too_few_for_a_spread(workspace):
    with History() as history:
        history.add(a_run(1))
    assert "too few" in estimate.estimate(CONF, Provider(20)).basis


def test_only_the_newest_fifty_count(workspace):
    with History() as history:
        for seconds in [1000.0] * 60 + [5.0] * 50:
            history.add(record(cpu_seconds=seconds))
        assert {row.cpu_seconds for row in history.recent("sign")} == {5.0}


def test_too_many_products_are_refused_with_number_and_estimate(workspace):
    found = estimate.estimate(CONF, Provider(201))
    with pytest.raises(BadRequest, match=r"201 products match, more than max_products=200.*CPU-min.*smaller area"):
        estimate.refuse_too_many(found, 200)
    estimate.refuse_too_many(found, 201)


def test_a_broken_database_costs_the_history_not_the_estimate(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("EARTHSELF_DATABASE_URL", f"sqlite:///{tmp_path}/broken.db")
    Path(tmp_path / "broken.db").write_text("this is no database" * 100)
    found = estimate.estimate(CONF, Provider(3))
    assert any("EARTHSELF_DATABASE_URL" in warning for warning in found.warnings)


@pytest.mark.parametrize("call", ["add", "replace", "recent"])
@pytest.mark.parametrize("trouble", ["busy", "table gone"])
def test_whatever_is_wrong_with_the_database_is_said_in_one_way(tmp_path, monkeypatch, call, trouble):
    monkeypatch.setattr(earthself.data.database, "BUSY_SECONDS", 0.01)
    path = tmp_path / "h.db"
    with History(f"sqlite:///{path}") as history:
        history._database.close()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            if trouble == "busy":
                # Readers are not kept out by a writer in WAL mode, only by one who wants all for itself.
                other.execute("PRAGMA journal_mode=DELETE")
                other.execute("BEGIN EXCLUSIVE")
            else:
                other.execute("DROP TABLE step_history")
            with pytest.raises(HistoryBroken, match=r"h\.db cannot be used \(.*(locked|no such table).*EARTHSELF_DATABASE_URL"):
                history.recent("sign") if call == "recent" else getattr(history, call)(record())


def test_a_run_is_kept_once(tmp_path):
    with History(f"sqlite:///{tmp_path}/h.db") as history:
        for seconds in (40.0, 50.0):
            history.replace(record(step=RUN, seconds=seconds))
        history.replace(record(step=RUN, run_id="another", seconds=60.0))
        history.add(record())
        assert [row.seconds for row in history.recent(RUN)] == [60.0, 50.0]
        assert len(history.recent("sign")) == 1


@pytest.mark.parametrize("url", ["postgresql+nodriver://u:hunter2@127.0.0.1:1/x", "hunter2", "sqlite:////proc/hunter2/x.db"])
def test_a_url_that_cannot_be_used_is_said_without_its_secrets(url):
    with pytest.raises(HistoryBroken, match="EARTHSELF_DATABASE_URL") as caught, History(url):
        pass
    assert "hunter2" not in str(caught.value) or url.startswith("sqlite")


def test_tasks_that_end_at_once_make_the_table_once(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    def add(_number):
        with History(f"sqlite:///{tmp_path}/shared.db") as history:
            history.add(record())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(24)))
    with History(f"sqlite:///{tmp_path}/shared.db") as history:
        assert len(history.recent("sign")) == 24


def test_a_newer_database_is_not_touched(tmp_path):
    url = f"sqlite:///{tmp_path}/new.db"
    with History(url):
        pass
    with sqlite3.connect(tmp_path / "new.db") as connection:
        connection.execute("UPDATE operators_version SET version_num = '9999'")
    with pytest.raises(HistoryBroken, match="newer than this program"), History(url):
        pass


def test_the_migrations_make_the_table_that_the_code_reads(tmp_path):
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from earthself.operators import history

    with History(f"sqlite:///{tmp_path}/a.db"):
        pass
    made = sa.MetaData()
    made.reflect(sa.create_engine(f"sqlite:///{tmp_path}/a.db"), only=["step_history"])
    wanted = history.STEP_HISTORY
    assert {(c.name, type(c.type)._type_affinity, c.nullable) for c in made.tables["step_history"].c} == {
        (c.name, type(c.type)._type_affinity, c.nullable) for c in wanted.c
    }
    config = Config()
    config.set_main_option("script_location", str(Path(history.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_workers_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("EARTHSELF_WORKERS", "16")
    assert workers() == 16
