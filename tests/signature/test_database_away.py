"""A PostgreSQL that is away or goes away in the middle: temporary, and with the reason."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy as sa
from earthself.signature import dialects
from earthself.signature.cli import app
from earthself.signature.errors import Unavailable
from earthself.signature.store import Store
from typer.testing import CliRunner


def test_a_connection_that_ends_in_the_middle_of_a_write_is_temporary(cluster, tmp_path):
    url = cluster.new_database()
    store = Store.open(tmp_path, url)

    def write():
        with store.catalog._writing() as connection:
            number = connection.scalar(sa.text("SELECT pg_backend_pid()"))
            with psycopg.connect(url, autocommit=True) as operator:
                operator.execute("SELECT pg_terminate_backend(%s)", (number,))
            dialects._copy(connection, "layer", ("product", "name"), [(1, "x")])

    with pytest.raises(Unavailable, match="does not answer"):
        write()
    assert store.statistics().products == 0
    store.close()


def test_a_database_that_cannot_be_reached_is_told_with_the_reason(cluster, tmp_path):
    missing = cluster.url("never_made")
    for url, why in (
        (missing, 'database "never_made" does not exist'),
        ("postgresql://me:secret@127.0.0.1:1/x", "127.0.0.1.*port 1 failed"),
    ):
        with pytest.raises(Unavailable, match=why) as said:
            Store.existing(tmp_path, url)
        assert "secret" not in "".join(said.value.__notes__)
        assert "127.0.0.1" not in str(said.value)  # which is for callers from elsewhere
    done = CliRunner().invoke(app, ["stats", "--home", str(tmp_path), "--database-url", missing])
    assert (done.exit_code, "never_made" in done.stderr) == (75, True)
