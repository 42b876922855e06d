"""What EarthSignature already knows of the products, and what it is told afterwards.

It makes runs cheaper, not better: when it is away, a run goes on without it and says so (docs/decisions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException
from earthself.operators.base import EarthSelfOperator
from earthself.operators.errors import AllLost

if TYPE_CHECKING:
    from airflow.sdk import Context
    from earthself.data.workspace import RunFolder
    from earthself.signature.client import SignatureClient

_AT_ONCE = 4
"""Signatures that travel at the same time."""


class EarthSignatureListOperator(EarthSelfOperator):
    """Find signatures that can stand for products: same observation, model, legend and preprocessing, and enough footprint.

    Writes a catalogue of signature items whose layers are local files; returns its reference dict.

    :param products: reference dict of the products found; the area of interest lies beside it.
    :param model: model name; its version is that of the installed model.
    :param mask: mask that was asked for.
    :param output: folder below the run's `work` folder.
    """

    template_fields: Sequence[str] = ("products", "model", "mask", "output_folder")
    ui_color = "#ead1dc"

    def __init__(
        self,
        *,
        products: Any,  # noqa: ANN401 - a dict or an XComArg
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
        """Look the products up and fetch the layers of what can be reused; skips when there are no products."""
        from earthself.data.reference import Reference
        from earthself.hooks.earthsignature import EarthSignatureHook
        from earthself.operators import catalogs, notes
        from earthself.signature.errors import Unavailable

        found = Reference.from_dict(self.products)
        if found.count == 0:
            raise AirflowSkipException("no product matches the request")
        run = self.run_folder(context)
        area = catalogs.area_beside(found.path())
        products = list(catalogs.read_items(found.path()))
        folder = catalogs.empty_folder(run.work / self.output_folder)
        items: list[dict[str, Any]] = []
        warnings: list[str] = []
        try:
            with EarthSignatureHook(self.earthsignature_conn_id).client() as client:
                items = self._fetch(client, products, area, folder)
        except Unavailable as error:
            warnings = [f"EarthSignature could not be asked, so nothing was reused: {error}"]
            self.log.warning(warnings[0])
        notes.leave(run, self.task_id, warnings)
        self.log.info(f"{len(items)} of {len(products)} products are known")
        return catalogs.write_catalog(folder, "known signatures", items, area).to_dict()

    def _fetch(
        self, client: SignatureClient, products: list[dict[str, Any]], area: dict[str, Any] | None, folder: Path
    ) -> list[dict[str, Any]]:
        import shapely.geometry
        from earthself.operators import signatures
        from earthself.operators.identity import signature_identity

        features = candidates(client, products)
        if not features:
            return []
        shape = shapely.geometry.shape(area) if area else None
        chosen = signatures.reusable(features, products, shape, signature_identity(self.model), self.mask)

        def bring(found_as: str) -> dict[str, Any] | None:
            return _bring(client, chosen[found_as], found_as, folder)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return [item for item in pool.map(bring, chosen) if item is not None]


class EarthSignatureIngestOperator(EarthSelfOperator):
    """Gather what the batches signed, store it in EarthSignature, and leave known and signed together as one catalogue.

    Beside it `failures.json` names every product that was lost and why: a list of {id, error, retry}.

    :param batches: list of reference dicts, as planned; None when nothing was planned.
    :param known: reference dict of the signatures known before.
    :param sign_task_id: the `ProcessingStepOperator` that is mapped over the batches; its outputs may lie anywhere.
    :param output: folder below the run's `work` folder.
    """

    template_fields: Sequence[str] = ("batches", "known", "sign_task_id", "output_folder")
    ui_color = "#ead1dc"

    def __init__(
        self,
        *,
        batches: Any,  # noqa: ANN401
        known: Any = None,  # noqa: ANN401
        sign_task_id: str = "sign",
        output: str = "signatures",
        earthsignature_conn_id: str = "earthsignature_default",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.batches = batches
        self.known = known
        self.sign_task_id = sign_task_id
        self.output_folder = output
        self.earthsignature_conn_id = earthsignature_conn_id

    def work(self, context: Context) -> dict[str, Any]:
        """Collect, store, link; raises `AllLost` when nothing is left, skips when nothing was planned or nothing touches the area."""
        from earthself.data.reference import Reference
        from earthself.data.workspace import write_json
        from earthself.operators import catalogs, notes

        if self.batches is None:
            raise AirflowSkipException("nothing was planned")
        run = self.run_folder(context)
        known = Reference.from_dict(dict(self.known)).path() if isinstance(self.known, Mapping) else None
        reused = catalogs.item_paths(known) if known else []
        batches = [Reference.from_dict(dict(batch)).path() for batch in self.batches]
        signed, failures = gather(run, batches, self.sign_task_id)
        folder = catalogs.empty_folder(run.work / self.output_folder)
        write_json(folder / "failures.json", failures)
        if not reused and not signed:
            if not failures:
                raise AirflowSkipException("no product has pixels in the area")
            raise AllLost(f"all {len(failures)} products were lost; the first, {failures[0]['id']}: {failures[0]['error']}")
        warnings = self._store(signed)
        notes.leave(run, self.task_id, warnings)
        for warning in warnings:
            self.log.warning(warning)
        for failure in failures:
            self.log.warning(f"{failure['id']} was lost: {failure['error']}")
        area = catalogs.area_beside(run.found)
        self.log.info(f"{len(reused)} reused, {len(signed)} signed, {len(failures)} lost")
        return catalogs.link_catalog(folder, "signatures", [*reused, *signed], area).to_dict()

    def _store(self, signed: list[Path]) -> list[str]:
        """Store the signatures; what cannot be stored is a warning, since the map does not need it."""
        from earthself.hooks.earthsignature import EarthSignatureHook
        from earthself.signature.errors import AlreadyExists, BadSignature, SignatureError

        def store(path: Path) -> SignatureError | None:
            try:
                _create(client, path)
            except SignatureError as error:
                return error
            return None

        if not signed:
            return []
        with EarthSignatureHook(self.earthsignature_conn_id).client() as client, ThreadPoolExecutor(_AT_ONCE) as pool:
            errors = {path.stem: error for path, error in zip(signed, pool.map(store, signed), strict=True) if error is not None}
        taken = [name for name, error in errors.items() if isinstance(error, AlreadyExists)]
        refused = [name for name, error in errors.items() if isinstance(error, BadSignature)]
        away = [name for name in errors if name not in taken and name not in refused]
        said = []
        if taken:
            said.append(f"{len(taken)} signatures were not stored: EarthSignature holds other ones of {_some(taken)}, which stay")
        if refused:
            said.append(f"{len(refused)} signatures were refused by EarthSignature: {_some(refused)}: {errors[refused[0]]}")
        if away:
            said.append(f"{len(away)} signatures were not stored, the next run makes them again: {errors[away[0]]}")
        return said


def candidates(client: SignatureClient, products: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """List what EarthSignature has of the products' observations, in one question."""
    from datetime import timedelta

    import shapely
    import shapely.geometry
    from earthself.data.area import Area
    from earthself.data.dates import parse_instant

    observations = {str(product["properties"].get("earthself:observation")) for product in products}
    times = [parse_instant(product["properties"]["datetime"]) for product in products if product["properties"].get("datetime")]
    if not times:
        return []
    outline = shapely.union_all([shapely.make_valid(shapely.geometry.shape(product["geometry"])) for product in products])
    span = timedelta(seconds=1)
    found = client.find(wkt=Area(outline).wkt, start=min(times) - span, end=max(times) + span, segmented=True)
    return [feature for feature in found if str(feature["properties"].get("earthself:observation")) in observations]


def gather(run: RunFolder, batches: list[Path], sign_task_id: str) -> tuple[list[Path], list[dict[str, Any]]]:
    """List the items that the batches' tasks left, and for every product that was lost {id, error, retry}."""
    from earthself.data.workspace import read_json
    from earthself.operators import accounts, catalogs

    signed: list[Path] = []
    failures: list[dict[str, Any]] = []
    for number, batch in enumerate(batches):
        left = accounts.output(run.step(sign_task_id, number))
        if left is None:
            why = accounts.why_lost(run, sign_task_id, number)
            failures += [{"id": _id_of(path), **why} for path in catalogs.item_paths(batch)]
            continue
        signed += catalogs.item_paths(left)
        if (left.parent / "failures.json").is_file():
            failures += read_json(left.parent / "failures.json")
    return signed, failures


def _id_of(path: Path) -> str:
    from earthself.data.workspace import read_json

    return str(read_json(path)["id"])


def _bring(client: SignatureClient, feature: Mapping[str, Any], found_as: str, folder: Path) -> dict[str, Any] | None:
    """Write the layers of a signature beside the place of its item; None where the server lacks a layer."""
    from earthself.data.workspace import write_bytes
    from earthself.operators import catalogs, signatures
    from earthself.signature.errors import NotFound
    from earthself.signature.items import LAYERS

    try:
        signature = client.get(str(feature["id"]), layers=LAYERS)
    except NotFound:
        return None
    if not all(signature.layers.get(layer) for layer in LAYERS):
        return None
    own = folder / catalogs.safe_name(str(feature["id"]))
    paths = {name: write_bytes(own / f"{name}.tif", content) for name, content in signature.layers.items()}
    return signatures.to_item(signature.feature, paths, found_as)


def _create(client: SignatureClient, path: Path) -> str:
    """Store a signature, beside the one that has its id where that was made in another way; raises `AlreadyExists` where it was not."""
    from earthself.operators import signatures
    from earthself.signature.errors import AlreadyExists
    from earthself.signature.items import read_signature

    signature = read_signature(path)
    try:
        return client.create(signature.feature, signature.layers())
    except AlreadyExists:
        if signatures.made_alike(client.get(str(signature.feature["id"]), layers=()).feature, signature.feature):
            raise
    return client.create({**signature.feature, "id": signatures.id_beside(signature.feature)}, signature.layers())


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
