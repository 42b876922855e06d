"""Run by test_whole_or_nothing: stores products in children that kill themselves at a chosen line, and looks at what is left.

The lines are those of the store, its folders and the catalogue, on the way through `Store.create`. Prints one JSON document.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from earthself.signature import catalog, rasters, shelves, store, vectors
from earthself.signature.product import from_feature
from earthself.signature.store import Store

WATCHED = {catalog.__file__, shelves.__file__, store.__file__}
# Between these lines a product begins to be there: every one of them counts, of the others every tenth.
DELICATE = {"_keep", "_insert", "_written", "move_in", "put", "insert", "keep"}
STRIDE = 10


def create(home, feature, layers, die_at):
    """Store one product, dying at the n-th watched line."""
    opened = Store.open(home)
    passed = 0.0

    def trace(frame, event, _argument):
        nonlocal passed
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event == "line":
            passed += 1.0 if frame.f_code.co_name in DELICATE else 1.0 / STRIDE
            if passed >= die_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    with opened.upload() as upload:
        if layers:
            for name, content in layers.items():
                upload.path(name).write_bytes(content)
            opened.create(from_feature(feature), upload, layers)
        else:
            square = {"type": "Feature", "geometry": feature["geometry"], "properties": {"category": 311}}
            opened.create_from_classes(from_feature(feature), vectors.classes_of([square], feature["id"]), upload)
    sys.settrace(None)


def in_child(function, *arguments):
    """Call in a forked child; gives its wait status."""
    child = os.fork()
    if child == 0:
        try:
            function(*arguments)
        finally:
            os._exit(3 if sys.exc_info()[0] else 0)
    return os.waitpid(child, 0)[1]


def left(home):
    """Start again, and say which products there are, by the pixels that their files hold, and which files nobody owns."""
    opened = Store.open(home)
    products = list(opened.find(store.Query()))
    owned = {opened.path(p, layer.name) for p in products for layer in p.layers}
    owned |= {home / "products" / p.folder / "classes.geobuf" for p in products if p.classes_sha256}
    files = {path for place in ("products", "staging", "lost") for path in (home / place).rglob("*") if path.is_file()}
    folders = {path for place in ("products", "staging", "lost") for path in (home / place).rglob("*") if path.is_dir()}
    stray = (files ^ owned) | {folder for folder in folders if not any(folder.iterdir())}
    said = {
        p.product.product_id: [layer.sha256 if rasters.is_whole(opened.path(p, layer.name), layer) else "damaged" for layer in p.layers]
        for p in products
    }
    opened.close()
    return said, sorted(map(str, stray))


def main():
    home, source = Path(sys.argv[1]), Path(sys.argv[2])
    feature = json.loads((source / "feature.json").read_text())
    layers = {path.stem: path.read_bytes() for path in source.glob("*.tif")}
    report = []
    for kind in (layers, {}):
        die_at, name = 1, ""
        while True:
            name = f"{'rasters' if kind else 'polygons'}-{die_at}"
            status = in_child(create, home, {**feature, "id": name}, kind, die_at)
            survived = os.WIFEXITED(status)
            products, stray = left(home)
            report.append(
                {"id": name, "survived": survived, "exit": status, "layers": products.get(name), "stray": stray, "all": len(products)}
            )
            if survived:
                break
            die_at += 1 if kind else 5
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main()
