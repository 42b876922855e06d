"""The command `earthsignature`: serve the database, and list, get and ingest from a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import warnings
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from earthself.data import logs
from earthself.data.errors import EarthSelfError
from earthself.data.terminal import Json
from earthself.data.terminal import say as _say
from earthself.signature import maintenance, tokens
from earthself.signature.errors import BadSetting, Unavailable
from earthself.signature.limits import USUAL, Limits
from earthself.signature.maintenance import ingest_many
from earthself.signature.terminal import HOME, Database, Home
from earthself.signature.terminal import errors as _errors

if TYPE_CHECKING:
    from earthself.signature.client import SignatureClient

_T = TypeVar("_T")
app = typer.Typer(name="earthsignature", help="EarthSignature: the land-cover database.", no_args_is_help=True, add_completion=False)
app.add_typer(tokens.app, name="token")
app.add_typer(maintenance.app)

Server = Annotated[str, typer.Option("--server", envvar="EARTHSELF_SIGNATURE_SERVER", help="host:port of the server.")]
Tls = Annotated[bool, typer.Option("--tls", help="Encrypt the connection.")]
TlsCa = Annotated[Path | None, typer.Option("--tls-ca", envvar="EARTHSELF_SIGNATURE_TLS_CA", help="Authorities to trust (PEM); encrypts.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds for an answer.")]


class _Read(StrEnum):
    OPEN = "open"
    TOKEN = "token"  # noqa: S105 - a choice


def _option(name: str, text: str, least: int | None = None, most: int | None = None) -> Any:  # noqa: ANN401 - typer's own type is not public
    """Make an option of the server with its variable: --max-calls is EARTHSELF_SIGNATURE_MAX_CALLS."""
    return typer.Option(name, envvar="EARTHSELF_SIGNATURE" + name.replace("-", "_").upper()[1:], help=text, min=least, max=most)


_METRICS = "Serve metrics for Prometheus at host:port; whoever reaches it may read them."
_SERVER = f"127.0.0.1:{os.environ.get('EARTHSELF_SIGNATURE_PORT', '50051')}"


@app.command()
def serve(
    *,
    home: Home = HOME,
    port: Annotated[int, typer.Option(envvar="EARTHSELF_SIGNATURE_PORT", min=0, max=65535, help="TCP port; 0 for a free one.")] = 50051,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    database_url: Database = None,
    sieve_ha: Annotated[float, typer.Option(min=0, help="Smallest patch of v2 answers in hectares.")] = 0.5,
    tls_cert: Annotated[Path | None, _option("--tls-cert", "Certificate of the server (PEM); taken anew when it changes.")] = None,
    tls_key: Annotated[Path | None, _option("--tls-key", "Key of the certificate (PEM).")] = None,
    tls_client_ca: Annotated[Path | None, _option("--tls-client-ca", "Turn clients away without a certificate of these (PEM).")] = None,
    insecure: Annotated[bool, _option("--insecure", "Clear text although other machines can connect.")] = False,
    tokens: Annotated[Path | None, _option("--tokens", "List of tokens, made by `token add`; writing needs one then.")] = None,
    read: Annotated[_Read, _option("--read", "Whether reading needs a token, too.")] = _Read.OPEN,
    reflection: Annotated[bool, typer.Option(help="Tell what the server answers, as grpcurl asks.")] = True,
    max_message: Annotated[
        int, _option("--max-message", "Bytes of a message that stores a product.", least=1 << 20, most=1 << 30)
    ] = USUAL.message,
    max_area_vertices: Annotated[int, _option("--max-area-vertices", "Corners of an area asked for.", least=4)] = USUAL.area_vertices,
    max_calls: Annotated[int, _option("--max-calls", "Calls at a time.", least=1)] = USUAL.calls,
    max_calls_of_one: Annotated[int, _option("--max-calls-of-one", "Calls at a time from one address.", least=1)] = USUAL.calls_of_one,
    metrics: Annotated[str | None, _option("--metrics", _METRICS)] = None,
    as_json: Json = False,
) -> None:
    """Serve the database by gRPC until SIGTERM or Ctrl-C; says on standard output where, once it answers."""
    from earthself.signature.server import ServerSettings, in_brackets
    from earthself.signature.server import serve as run
    from earthself.signature.tls import ServerTls

    os.environ.setdefault("GDAL_CACHEMAX", "256")  # MB; by default GDAL keeps 5 % of the machine's memory

    def ready(bound: int) -> None:
        at = f"{in_brackets(host)}:{bound}"
        _say({"host": host, "port": bound, "home": str(home)} if as_json else f"EarthSignature listens on {at}, store {home}")

    with _errors(as_json):
        logs.configure()
        if (tls_cert is None) != (tls_key is None) or (tls_client_ca and not tls_cert):
            raise BadSetting("TLS needs --tls-cert and --tls-key; give both, or none")
        settings = ServerSettings(
            home=home,
            host=host,
            port=port,
            database_url=database_url,
            sieve_ha=sieve_ha,
            tls=ServerTls(tls_cert, tls_key, tls_client_ca) if tls_cert and tls_key else None,
            insecure=insecure,
            tokens=tokens,
            read=read.value,
            reflection=reflection,
            limits=Limits(max_message, max_area_vertices, calls=max_calls, calls_of_one=max_calls_of_one),
            metrics=metrics,
        )
        asyncio.run(run(settings, ready))


@app.command()
def web(
    *,
    home: Home = HOME,
    port: Annotated[int, typer.Option(envvar="EARTHSELF_DATA_PORT", min=0, max=65535, help="TCP port; 0 for a free one.")] = 8081,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    database_url: Database = None,
    workspace: Annotated[Path | None, typer.Option(envvar="EARTHSELF_WORKSPACE", help="Workspace with published results.")] = None,
    root_path: Annotated[str, typer.Option(envvar="EARTHSELF_DATA_ROOT_PATH", help="Path at which a proxy shows it, such as /data.")] = "",
    insecure: Annotated[bool, typer.Option(help="Clear text although other machines can connect.")] = False,
    tokens: Annotated[Path | None, _option("--tokens", "List of tokens, made by `token add`.")] = None,
    read: Annotated[_Read, _option("--read", "Whether reading needs a token, here and for `serve`.")] = _Read.OPEN,
    metrics: Annotated[str | None, typer.Option(envvar="EARTHSELF_DATA_METRICS", help=_METRICS)] = None,
    as_json: Json = False,
) -> None:
    """Serve the store as a STAC API with tiles and maps, beside `serve`, until SIGTERM or Ctrl-C. It only reads."""
    os.environ.setdefault("GDAL_CACHEMAX", "256")  # MB
    os.environ.setdefault("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR")  # our rasters are one file each
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")  # stac-fastapi imports it; our answers are our own
    from earthself.data.workspace import Workspace

    def ready(bound: int) -> None:
        at = f"http://{host}:{bound}"
        _say({"url": at, "home": str(home)} if as_json else f"EarthSignature's STAC API and maps are at {at}, store {home}")

    with _errors(as_json):
        logs.configure()
        try:
            from earthself.signature.web.app import WebSettings
            from earthself.signature.web.app import serve as run
        except ModuleNotFoundError as error:
            raise BadSetting(f"{error}; the web server needs more packages: pip install earthself-signature[web]") from error
        catalog = Workspace(workspace or home.parent / "workspace").catalog
        settings = WebSettings(home, host, port, database_url, catalog, root_path.rstrip("/"), insecure, tokens, read.value, metrics)
        asyncio.run(run(settings, ready))


@app.command(name="list")
def list_products(
    *,
    wkt: Annotated[str | None, typer.Option(help="Area: well-known text in longitude and latitude.")] = None,
    start: Annotated[str | None, typer.Option(help="Acquired at or after this date or time.")] = None,
    end: Annotated[str | None, typer.Option(help="Acquired before this date or time.")] = None,
    product_id: Annotated[list[str] | None, typer.Option("--id", help="Only products of these ids.")] = None,
    category: Annotated[list[int] | None, typer.Option(help="Only products with one of these CORINE codes.")] = None,
    least_share: Annotated[float, typer.Option(min=0, max=1, help="Of what has a code, these categories have at least this part.")] = 0,
    limit: Annotated[int | None, typer.Option(help="At most so many.")] = None,
    server: Server = _SERVER,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    timeout: Timeout = 60,
    as_json: Json = False,
) -> None:
    """List stored products, newest acquisition first; with --json one GeoJSON Feature a line."""
    with _errors(as_json), _client(server, tls, timeout, tls_ca) as client:
        found = client.find(
            wkt=wkt,
            start=start,
            end=end,
            product_ids=product_id or (),
            categories=category or (),
            limit=limit,
            least_share=least_share or None,
        )
        for feature in found:
            said = feature["properties"]
            _say(feature if as_json else f"{said['creation_date']:<27} {said['cloud_cover']:5.1f} %  {feature['id']}")


@app.command()
def health(*, server: Server = _SERVER, tls: Tls = False, tls_ca: TlsCa = None, timeout: Timeout = 5, as_json: Json = False) -> None:
    """Ask a server whether it can do its work, store and database included; ends with 75 where not. It needs no token."""
    with _errors(as_json), _client(server, tls, timeout, tls_ca) as client:
        if not client.health():
            raise Unavailable(f"EarthSignature at {server} does not answer, or cannot read its store; its own log says why")
        _say({"server": server, "serving": True} if as_json else f"{server} serves")


@app.command()
def get(
    product_id: Annotated[str, typer.Argument(help="Id of the product.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for PRODUCT.geojson and PRODUCT_LAYER.tif.")] = Path(),
    layer: Annotated[list[str] | None, typer.Option(help="Only these layers; all if left out.")] = None,
    server: Server = _SERVER,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    timeout: Timeout = 60,
    as_json: Json = False,
) -> None:
    """Fetch a product and its layers into a folder."""
    with _errors(as_json), _client(server, tls, timeout, tls_ca) as client:
        signature = client.get(product_id, layer)
        stem = "".join(c if c.isalnum() or c in "._-" else "_" for c in product_id)
        output.mkdir(parents=True, exist_ok=True)
        written = {"feature": output / f"{stem}.geojson"} | {name: output / f"{stem}_{name}.tif" for name in signature.layers}
        _write(written["feature"], json.dumps(signature.feature, indent=1).encode())
        for name, content in signature.layers.items():
            _write(written[name], content)
        _say({name: str(path) for name, path in written.items()} if as_json else "\n".join(map(str, written.values())))


@app.command()
def ingest(
    *,
    files: Annotated[list[Path], typer.Argument(help="STAC items, or one GeoJSON feature with the options below.")],
    segmentation: Annotated[Path | None, typer.Option(help="GeoTIFF of CORINE codes.")] = None,
    cloud_mask: Annotated[Path | None, typer.Option(help="GeoTIFF, 1 = cloud.")] = None,
    confidence: Annotated[Path | None, typer.Option(help="GeoTIFF of percent.")] = None,
    flags: Annotated[Path | None, typer.Option(help="GeoTIFF of flag bits.")] = None,
    metadata_only: Annotated[bool, typer.Option(help="Describe products in bulk, without rasters, straight in the database.")] = False,
    direct: Annotated[bool, typer.Option("--direct", help="Store many at a time straight in the store, while no server runs.")] = False,
    home: Home = HOME,
    database_url: Database = None,
    server: Server = _SERVER,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    timeout: Timeout = 60,
    as_json: Json = False,
) -> None:
    """Store products; what is stored already with the same content counts as done. A bad one does not stop the others.

    With --metadata-only the files may hold many: newline-delimited JSON, feature collections or GeoParquet. A server may run beside it.
    With --direct they may be folders of STAC items.
    """
    from earthself.signature.items import read_signature

    if metadata_only or direct:
        ingest_many(files, home, database_url, as_json, metadata_only=metadata_only)
        return
    given = {"segmentation": segmentation, "cloud_mask": cloud_mask, "confidence": confidence, "flags": flags}
    layers = {name: path for name, path in given.items() if path is not None}
    if layers and len(files) > 1:
        raise typer.BadParameter("layers can be given for one feature at a time")
    worst: EarthSelfError | None = None
    with _errors(as_json), _client(server, tls, timeout, tls_ca) as client:
        for path in _progress(files, "storing"):
            try:
                signature = read_signature(path, layers)
                outcome = client.create(signature.feature, signature.layers())
                _say({"file": str(path), "id": signature.feature.get("id"), "outcome": outcome} if as_json else f"{outcome:<8} {path}")
            except EarthSelfError as error:
                _say(
                    {"file": str(path), "outcome": "failed", "error": str(error), "retry": error.retry}
                    if as_json
                    else f"failed   {path}: {error}"
                )
                worst = error
    if worst is not None:
        raise typer.Exit(worst.exit_code)


def _client(server: str, tls: bool, timeout: float, tls_ca: Path | None) -> SignatureClient:
    from earthself.signature.client import Connection, SignatureClient

    token, certificate, key = (os.environ.get(f"EARTHSELF_SIGNATURE_{name}") or None for name in ("TOKEN", "CLIENT_CERT", "CLIENT_KEY"))
    return SignatureClient(Connection(server, tls, token, timeout, str(tls_ca) if tls_ca else None, certificate, key))


def _progress(things: list[_T], what: str) -> Iterable[_T]:
    if not sys.stderr.isatty() or len(things) < 2:
        return things
    from rich.console import Console
    from rich.progress import track

    return track(things, description=what, console=Console(stderr=True))


def _write(path: Path, content: bytes) -> None:
    rough = path.with_name(path.name + ".part")
    rough.write_bytes(content)
    rough.replace(path)


def main() -> None:
    """Run the command."""
    app()
