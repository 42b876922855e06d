"""What a step in a cloud without the workspace reads and leaves, on its way through that cloud's storage: sent once, counted, limited.

A worker sends the closure of the step's catalogue. Outputs of earlier steps that lie in the same storage, to the byte, are read from there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthself.operators import catalogs
from earthself.operators.clouds import Cloud
from earthself.operators.errors import BadRequest
from earthself.operators.resources import quantity, spell
from earthself.operators.step_run import StepRun

if TYPE_CHECKING:
    from earthself.data.lending import Loan

_COPY, _SENT = "copy.json", "sent.json"
"""In a step's folder: where in a storage its output lies, too, and how many bytes were sent for it."""
_SENDING = "sending"
_STRUCTURE = ("root", "parent", "collection", "self")
_REGION = "EARTHSELF_REGION"
"""Where the workers are, as provider/region; transfers within it do not cross clouds."""


@dataclass(frozen=True)
class Part:
    """A folder in the storage and where it belongs."""

    url: str
    """The staged folder."""
    folder: str
    """Where its files belong, relative to the workspace; a dot is the workspace itself."""
    files: frozenset[str] = frozenset()
    """What it holds of what would be sent otherwise, relative to the folder."""


@dataclass(frozen=True)
class Shipping:
    """The ways of one step's input and output."""

    cloud: Cloud
    """Where it runs; it has a storage."""
    run: StepRun
    """The attempt."""
    inputs: Sequence[Path]
    """Catalogues that it reads; none for a step without inputs."""
    base: str
    """URL below which everything of this task lies."""

    @property
    def input(self) -> str:
        """URL of what the worker sends."""
        return f"{self.base}/input"

    @property
    def output(self) -> str:
        """URL of what the step leaves."""
        return f"{self.base}/output"

    @property
    def crosses(self) -> bool:
        """Whether worker and storage are in two clouds; so they are where nobody says otherwise."""
        here = os.environ.get(_REGION, "")
        return not here or here != f"{self.cloud.provider}/{self.cloud.region}"

    def closure(self) -> list[Path]:
        """List the files of the workspace that the step may read: its catalogues with what lies beside them, their items, local assets."""
        found = {path for one in self.inputs for path in _reached(one, self.run.root)}
        if self.run.source.parent == self.run.staging and self.run.source.is_dir():
            found |= _files(self.run.source)
        return sorted(found)

    def there(self) -> list[Part]:
        """List outputs of earlier steps that the step reads and that lie in this storage as they lie here."""
        files = self.closure()
        near = [one for one in self._copies() if any(path.is_relative_to(self.run.root / one.folder) for path in files)]
        return [replace(one, files=held) for one in near if (held := self._held(one))]

    def send(self, there: Sequence[Part]) -> int:
        """Send what is not there; returns the bytes that went. Raises `BadRequest` before that for more than may cross."""
        from earthself.data.folders import stage_out
        from earthself.data.workspace import write_json

        had = {self.run.root / one.folder / name for one in there for name in one.files}
        files = [path for path in self.closure() if path not in had]
        self._limited(sum(path.stat().st_size for path in files), "input")
        folder = self.run.folder / _SENDING
        try:
            for path in files:
                _linked(path, folder / path.relative_to(self.run.root))
            folder.mkdir(exist_ok=True)
            sent = stage_out(folder, self.input).moved
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        write_json(self.run.folder / _SENT, {"sent": sent})
        return sent

    def fetch(self) -> dict[str, int | bool]:
        """Bring the output to the run's work folder, whole or not at all; returns what the step's staging took, for its account.

        The copy in the storage stays for the steps that follow; what was sent for this one goes.
        """
        from earthself.data.folders import stage_in, staged

        sent = self._sent()
        self._limited(sent + staged(self.output).size, "input and output together")
        fetched = stage_in(self.output, self.run.made).moved
        return {"sent": sent, "fetched": fetched, "crossed": self.crosses}

    def remember(self) -> None:
        """Note where the output's copy lies, and forget the input's."""
        from earthself.data.folders import drop
        from earthself.data.workspace import write_json

        write_json(self.run.folder / _COPY, {"url": self.output, "folder": str(self.run.output.relative_to(self.run.root))})
        drop(self.input)

    def lend(self, folder: Path, there: Sequence[Part]) -> Loan:
        """Give keys for exactly these places, as files that will lie in `folder`."""
        from earthself.data.lending import lend

        return lend(str(folder), self.base.rpartition("@")[2], read=[self.input, *(one.url for one in there)], write=[self.output])

    def _sent(self) -> int:
        from earthself.data.workspace import read_json

        path = self.run.folder / _SENT
        return int(read_json(path)["sent"]) if path.is_file() else 0

    def _limited(self, size: int, what: str) -> None:
        limit = quantity(self.cloud.max_crossing, "max_crossing")
        if self.crosses and size > limit:
            raise BadRequest(
                f"{what} of {self.run.name}: {size} bytes ({spell(size)}), and at most {limit} ({self.cloud.max_crossing}) may cross to or "
                f"from cloud {self.cloud.conn_id}; run it where its data are (cloud='data'), give it less to do, or raise max_crossing"
            )

    def _copies(self) -> Iterator[Part]:
        from earthself.data.workspace import read_json

        for path in sorted((self.run.work / "steps").glob(f"*/{_COPY}")):
            found: dict[str, Any] = read_json(path)
            if str(found["url"]).startswith(f"{str(self.cloud.storage).rstrip('/')}/"):
                yield Part(str(found["url"]), str(found["folder"]))

    def _held(self, one: Part) -> frozenset[str]:
        """Name what a copy holds, if that is what is here; nothing otherwise. A storage that does not answer is an error and not a no."""
        from earthself.data.errors import Damaged, NotThere
        from earthself.data.folders import same_files, staged

        try:
            copy = staged(one.url)
        except (NotThere, Damaged):
            return frozenset()
        return frozenset(file.name for file in copy.files) if same_files(self.run.root / one.folder, copy) else frozenset()


def shipping(cloud: Cloud, run: StepRun, inputs: Sequence[Path], names: Sequence[str]) -> Shipping:
    """Name the places of a task (DAG, run, task, map index) in its cloud's storage."""
    base = "/".join([str(cloud.storage).rstrip("/"), *map(catalogs.safe_name, names)])
    return Shipping(cloud, run, inputs, base)


def _reached(catalog: Path, root: Path, above: frozenset[Path] = frozenset()) -> set[Path]:
    """List what a catalogue leads to; raises `BadRequest` for what lies outside of the workspace."""
    from earthself.data.workspace import read_json

    found = _files(catalog.parent)
    for link in read_json(catalog).get("links", []):
        path = Path(os.path.normpath(catalog.parent / str(link["href"])))
        if link.get("rel") == "child" and path not in above:
            found |= _reached(path, root, above | {catalog})
    for item in catalogs.item_paths(catalog):
        said = read_json(item)
        hrefs = [str(asset.get("href", "")) for asset in dict(said.get("assets") or {}).values()]
        near = [str(link["href"]) for link in said.get("links", []) if link.get("rel") in _STRUCTURE]
        local = [href.removeprefix("file://") for href in hrefs if href.startswith("file://") or "://" not in href]
        assets = {catalogs.asset_path(item, href) for href in local}
        # Of what only describes the item, what is not there is no loss to it.
        about = {path for href in near if "://" not in href and (path := catalogs.asset_path(item, href)).is_file()}
        found |= {item} | {file for path in assets for file in (_files(path) if path.is_dir() else {path})}
        found |= {path for path in about if path.is_relative_to(root)}
    for path in found:
        if not path.is_relative_to(root) or not path.is_file():
            raise BadRequest(
                f"{catalog} leads to {path}, which is not in the workspace {root}, or not there; only what is can be sent to a pod"
            )
    return found


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def _linked(path: Path, name: Path) -> None:
    """Give a file a second name, which takes no room; a copy where the disk has no such thing."""
    name.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path.resolve(), name)
    except OSError:
        shutil.copyfile(path, name)
