"""Write the message classes of `earthself/signature/proto` into `earthself/signature/wire`: python generate_stubs.py [FOLDER].

Two things are changed in what protoc writes: imports lead into our package, and the descriptors go into a pool of our own, so
that a program may load our client beside stubs that it generated itself from the same public interface.
"""

from __future__ import annotations

import re
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
PROTO = HERE / "earthself" / "signature" / "proto"
WIRE = HERE / "earthself" / "signature" / "wire"
_PACKAGE = "earthself.signature.wire"


def generate(folder: Path) -> list[Path]:
    """Write all stubs below the folder and return their paths."""
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        includes = [f"-I{PROTO}", f"-I{files('grpc_tools') / '_proto'}"]
        if protoc.main(["protoc", *includes, f"--python_out={scratch}", f"--pyi_out={scratch}", *sources]) != 0:
            sys.exit("protoc refused the interface; its message stands above")
        written = []
        for path in sorted(Path(scratch).rglob("*_pb2.py*")):
            target = folder / path.relative_to(scratch)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_at_home(path.read_text(), path.suffix))
            written.append(target)
    return written


def _at_home(text: str, suffix: str) -> str:
    text = re.sub(r"^from (snapearth|earthself)\.", rf"from {_PACKAGE}.\1.", text, flags=re.MULTILINE)
    text = re.sub(r"^import geobuf_pb2", f"from {_PACKAGE} import geobuf_pb2", text, flags=re.MULTILINE)
    if suffix == ".pyi":
        return "# ruff: noqa: A002, E501, F401, I001, ICN001, RUF023, RUF100, UP007, UP045\n# fmt: off\n# mypy: ignore-errors\n" + text
    pool = f"from {_PACKAGE}.pool import POOL\n"
    text = text.replace("BuildTopDescriptorsAndMessages(DESCRIPTOR, '", f"BuildTopDescriptorsAndMessages(DESCRIPTOR, '{_PACKAGE}.")
    return text.replace("# @@protoc_insertion_point(imports)\n", pool).replace("_descriptor_pool.Default()", "POOL")


if __name__ == "__main__":
    for stub in generate(Path(sys.argv[1]) if len(sys.argv) > 1 else WIRE):
        sys.stdout.write(f"{stub}\n")
