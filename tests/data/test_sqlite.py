"""A SQLite file of many writers is opened while others write to it."""

import sqlite3
import time
from contextlib import closing
from threading import Timer

import pytest
from earthself.data.sqlite import open_shared


@pytest.fixture
def writer(tmp_path):
    """Who made the file a moment ago and still writes to it."""
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)) as writer:
        writer.execute("CREATE TABLE t (x)")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO t VALUES (1)")
        yield writer


def test_the_first_change_of_a_new_file_is_waited_for(tmp_path, writer):
    ends = Timer(0.3, writer.execute, ["COMMIT"])
    ends.start()
    with closing(sqlite3.connect(tmp_path / "x.db")) as other:
        open_shared(other, busy_seconds=30, synchronous="NORMAL")
        assert other.execute("SELECT x FROM t").fetchall() == [(1,)]
        assert [other.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")] == ["wal", 1]
    ends.join()


def test_a_file_that_stays_locked_is_an_error_in_time(tmp_path, writer):
    began = time.monotonic()
    with closing(sqlite3.connect(tmp_path / "x.db")) as other, pytest.raises(sqlite3.OperationalError, match="locked"):
        open_shared(other, busy_seconds=0.2, synchronous="NORMAL")
    assert 0.2 <= time.monotonic() - began < 5


def test_a_file_that_is_no_database_is_an_error_at_once(tmp_path):
    (tmp_path / "x.db").write_text("not a database, however often it is asked for")
    with closing(sqlite3.connect(tmp_path / "x.db")) as other, pytest.raises(sqlite3.DatabaseError, match="not a database"):
        open_shared(other, busy_seconds=30, synchronous="NORMAL")
