"""The last task: everything that a run leaves for people and programs, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.operators.base import EarthSelfOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class PublishOperator(EarthSelfOperator):
    """Put the result folder together (docs: the platform's contract) and enter it into the catalogue of all results."""

    ui_color = "#d0e0e3"

    def work(self, context: Context) -> dict[str, Any]:
        """Publish; returns {status, href of result.json}."""
        from earthself.data.workspace import write_json
        from earthself.operators import catalogs

        run = self.run_folder(context)
        found = len(catalogs.item_paths(run.found))
        outputs: dict[str, str] = {}
        for folder in ("mosaic", "statistics", "quicklook"):
            for path in _files(run.output(folder)) if found else []:
                shutil.copyfile(path, run.path / path.name)
                outputs[path.stem] = path.name
        result = {"status": "complete" if found else "empty", "products": {"found": found}, "outputs": outputs}
        write_json(run.result, result)
        return {"status": result["status"], "href": str(run.result)}


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in {".tif", ".png", ".csv", ".parquet"}]
