"""What EarthSignature already knows of the products, and what it is told afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException
from earthself.operators.base import EarthSelfOperator
from earthself.operators.errors import AllLost

if TYPE_CHECKING:
    from airflow.sdk import Context
    from earthself.data.workspace import RunFolder


class EarthSignatureListOperator(EarthSelfOperator):
    """Find signatures that can stand for products: same observation, model, legend and preprocessing, and enough footprint.

    Writes a catalogue of signature items whose layers are local files; returns its reference dict.

    :param products: reference dict of the products found.
    :param model: model name; its version is that of the installed model.
    :param mask: mask that was asked for.
    """

    template_fields: Sequence[str] = ("products", "model", "mask", "output_folder")
    ui_color = "#ead1dc"

    def __init__(
        self,
        *,
        products: Any,  # noqa: ANN401
        model: str = "baseline",
        mask: str = "auto",
        output: str = "known",
        earthsignature_conn_id: str = "earthsignature_default",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.products = products
        self.model = model
        self.mask = mask
        self.output_folder = output
        self.earthsignature_conn_id = earthsignature_conn_id

    def work(self, context: Context) -> dict[str, Any]:
        """Look up the products; skips when there are none."""
        from earthself.data.reference import Reference
        from earthself.operators import catalogs

        found = Reference.from_dict(self.products)
        if found.count == 0:
            raise AirflowSkipException("no product matches the request")
        folder = catalogs.empty_folder(self.run_folder(context).work / self.output_folder)
        return catalogs.write_catalog(folder, "known signatures", [], catalogs.area_beside(found.path())).to_dict()


class EarthSignatureIngestOperator(EarthSelfOperator):
    """Gather what the batches signed, store it in EarthSignature, and leave known and signed together as one catalogue.

    :param batches: list of reference dicts, as planned.
    :param known: reference dict of the signatures known before.
    """

    template_fields: Sequence[str] = ("batches", "known", "output_folder")
    ui_color = "#ead1dc"

    def __init__(
        self,
        *,
        batches: Any,  # noqa: ANN401
        known: Any = None,  # noqa: ANN401
        output: str = "signatures",
        earthsignature_conn_id: str = "earthsignature_default",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.batches = batches
        self.known = known
        self.output_folder = output
        self.earthsignature_conn_id = earthsignature_conn_id

    def work(self, context: Context) -> dict[str, Any]:
        """Collect, store, link; raises `AllLost` when no signature is left, skips when nothing was planned."""
        from earthself.data.reference import Reference
        from earthself.data.workspace import write_json
        from earthself.operators import catalogs

        if self.batches is None:
            raise AirflowSkipException("nothing was planned")
        run = self.run_folder(context)
        known = Reference.from_dict(dict(self.known)).path() if isinstance(self.known, Mapping) else None
        paths = catalogs.item_paths(known) if known else []
        signed, failures = self._gather(run, len(self.batches))
        if not paths and not signed:
            first = failures[0] if failures else {"id": "?", "error": "no reason was left"}
            raise AllLost(f"all {len(failures)} products were lost; the first, {first['id']}: {first['error']}")
        folder = catalogs.empty_folder(run.work / self.output_folder)
        write_json(folder / "failures.json", failures)
        area = catalogs.area_beside(known) if known else None
        return catalogs.link_catalog(folder, "signatures", [*paths, *signed], area).to_dict()

    def _gather(self, run: RunFolder, batches: int) -> tuple[list[Path], list[dict[str, Any]]]:
        """List the signed items and, for every product of a batch without one, why."""
        from earthself.data.workspace import read_json
        from earthself.operators import catalogs

        signed: list[Path] = []
        failures: list[dict[str, Any]] = []
        for number in range(batches):
            if not run.signed(number).is_file():
                failures += [
                    {"id": path.stem, "error": "its batch failed", "retry": True} for path in catalogs.item_paths(run.batch(number))
                ]
                continue
            signed += catalogs.item_paths(run.signed(number))
            failures += read_json(run.failures(number)) if run.failures(number).is_file() else []
        return signed, failures
