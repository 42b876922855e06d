"""How a SQLite file that many processes write to is opened."""

from __future__ import annotations

import sqlite3
import time
from typing import Literal


def open_shared(connection: sqlite3.Connection, *, busy_seconds: float, synchronous: Literal["FULL", "NORMAL"]) -> None:
    """Let readers and the writer of a file not wait for each other, and writers wait for each other up to `busy_seconds`.

    Transactions are begun by the caller from here on: Python's driver would leave changes of tables outside of them. Raises
    `sqlite3.OperationalError` for a file that others keep locked for longer, or that cannot be opened.
    """
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={1000 * busy_seconds:.0f}")
    until = time.monotonic() + busy_seconds
    while True:
        try:
            # The first to open a new file changes how it is kept; SQLite does not wait there for somebody who already writes to it.
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
    connection.execute(f"PRAGMA synchronous={synchronous}")
