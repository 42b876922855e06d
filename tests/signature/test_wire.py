"""The generated code is that of the interface files, and lives beside stubs that a user generated from the same files."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import earthself.signature
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from earthself.signature.catalog import Catalog
from earthself.signature.errors import StoreBroken
from earthself.signature.tables import METADATA, VERSION

PACKAGE = Path(earthself.signature.__path__[0])
SCRIPT = PACKAGE.parents[1] / "generate_stubs.py"


def test_generated_code_is_up_to_date(tmp_path):
    spec = importlib.util.spec_from_file_location("generate_stubs", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    fresh = {path.relative_to(tmp_path): path.read_text() for path in script.generate(tmp_path)}
    kept = {path.relative_to(PACKAGE / "wire"): path.read_text() for path in (PACKAGE / "wire").rglob("*_pb2.py*") if path.suffix != ".pyc"}
    assert kept == fresh


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
@pytest.mark.parametrize("theirs", ["import snapearth.api.v1.database_pb2 as theirs", "import geobuf"])
def test_a_program_may_have_stubs_of_its_own(tmp_path, order, theirs):
    files = [PACKAGE / "proto" / name for name in ("geobuf.proto", "snapearth/api/v1/database.proto")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PACKAGE / 'proto'}", f"--python_out={tmp_path}"]
    subprocess.run([*command, *map(str, files)], check=True)
    if "geobuf" in theirs:
        (tmp_path / "geobuf_pb2.py").unlink()
    # Other words in the file make another descriptor of the same name: protobuf's own pool refuses that.
    stub = tmp_path / "snapearth" / "api" / "v1" / "database_pb2.py"
    stub.write_text(stub.read_text().replace("browse_url", "browse_uri"))
    imports = ["import earthself.signature.client as ours", theirs]
    used = ["print(ours.v1.SegmentationResponse(browse_url='y').browse_url)"]
    if "snapearth" in theirs:
        used.append("print(theirs.SegmentationResponse(browse_uri='y').browse_uri)")
    code = "; ".join([*(imports if order == "ours first" else imports[::-1]), *used])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("y\n" * len(used), 0), done.stderr[-2000:]


def test_the_package_is_imported_without_anything_heavy():
    heavy = "('grpc', 'rasterio', 'xarray', 'sqlalchemy')"
    code = f"import sys, earthself.signature, earthself.signature.errors; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.filterwarnings("ignore:Did not recognize type 'geometry'")
def test_migrations_make_the_tables_that_the_code_knows(new_database):
    url = new_database()
    catalog = Catalog(url)
    assert catalog.migrate() == (None, VERSION)
    assert catalog.migrate() == (VERSION, VERSION)
    catalog.close()
    with sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://")).connect() as connection:
        types = {"compare_type": lambda _, read, *__: False if read.name == "footprint" else None}  # SQLAlchemy does not know geometries
        context = MigrationContext.configure(connection, opts={"version_table": "signature_version", **types})
        differences = compare_metadata(context, METADATA)
        beside = ("place", "spatial_ref_sys")  # SQLite's R*Tree, and PostGIS's own
        changed = [change for d in differences for change in (d if isinstance(d, list) else [d])]
        ours = [d for d in changed if d[0] != "modify_comment" and not (d[0] == "remove_table" and d[1].name.startswith(beside))]
        only_postgres = [] if "postgresql" in url else [("add_index", "product_place")]
        assert [(d[0], getattr(d[1], "name", d[1:])) for d in ours] == only_postgres
        assert connection.scalar(sa.text("SELECT version_num FROM signature_version")) == VERSION


def test_a_database_of_a_newer_program_is_left_alone(new_database):
    catalog = Catalog(new_database())
    catalog.migrate()
    with catalog._writing() as connection:
        connection.exec_driver_sql("UPDATE signature_version SET version_num = '9999'")
    with pytest.raises(StoreBroken, match="version 9999, newer than this EarthSignature"):
        catalog.migrate()
    catalog.close()


def test_what_is_no_database_is_said(tmp_path):
    (tmp_path / "db.sqlite").write_bytes(b"no database" * 1000)
    catalog = Catalog(f"sqlite:///{tmp_path / 'db.sqlite'}")
    with pytest.raises(StoreBroken, match="cannot be opened"):
        catalog.migrate()
    catalog.close()
    with pytest.raises(StoreBroken, match=r"mysql://me:\*\*\*@db/signatures: give sqlite:////path/to/file, or postgresql:"):
        Catalog("mysql://me:secret@db/signatures")
