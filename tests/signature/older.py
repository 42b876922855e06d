"""Turns a store of today into what an earlier version of the program left: its tables, with the same products."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from earthself.signature import migrations

COLUMNS = (
    "pk, product_id, creation_date, publication_date, product_type, cloud_cover, properties, footprint, digest, classes_sha256, "
    "folder, stored_at"
)


def make_older(home: Path, revision: str) -> None:
    """Write the database anew at an earlier revision (0001 or 0002); nothing may have it open."""
    database, newer = home / "earthsignature.sqlite", home / "newer.sqlite"
    database.rename(newer)
    engine = sa.create_engine(f"sqlite:///{database}")
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"ATTACH '{newer}' AS newer")
        connection.exec_driver_sql(f"INSERT INTO product ({COLUMNS}) SELECT {COLUMNS} FROM newer.product")  # noqa: S608
        connection.exec_driver_sql("INSERT INTO layer SELECT * FROM newer.layer")
        connection.exec_driver_sql("INSERT INTO product_code SELECT code, product, pixels FROM newer.product_code")
        connection.exec_driver_sql("INSERT INTO footprint SELECT pk, west, east, south, north, product FROM newer.place")
        if revision != "0001":
            connection.exec_driver_sql("INSERT INTO store SELECT * FROM newer.store")
        connection.commit()
    engine.dispose()
    newer.unlink()
