"""An environment on this machine: folders, a git repository, a token of EarthSignature, and what its owner needs to use them.

It isolates nobody from anybody: whoever runs on this machine as the platform's user sees all of it. The plan says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from earthself.provision.engines.files import write_secret
from earthself.provision.errors import BadOrder, EngineBusy, EngineFailed, NoQuota
from earthself.provision.model import Level, Observed, Order, Plan, Resource, Status
from earthself.signature.access import TokenFile
from earthself.signature.errors import NotFound, SignatureError

_GIT_SECONDS = 30.0
_LONGEST = 500
_MARK = "environment.json"
_EXAMPLE = '''"""The first workflow of this environment: change it, commit, and it is there in some seconds."""

from airflow.sdk import DAG, task

with DAG(dag_id="{dag_id}", schedule=None, tags=["{request}"]):

    @task
    def hello() -> str:
        return "it runs"

    hello()
'''
_OPEN = ("no isolation: tenants of one machine can read each other's files and processes",)


@dataclass(frozen=True)
class LocalEngine:
    """Makes environments below a folder."""

    root: Path
    """Absolute; each environment has a folder of its own there, named by its request."""
    tokens: Path
    """EarthSignature's list of tokens (`earthsignature token`)."""
    services: Mapping[str, str]
    """Addresses that its owner needs, by name: `airflow`, `signature`, …"""
    name: str = "local"

    def plan(self, order: Order) -> Plan:
        """Say what would be made; raises `BadOrder` for another level than WaaS, `NoQuota` where the disk has no room for it."""
        if order.level is not Level.WAAS:
            raise BadOrder(f"the engine local makes no {order.level}; name a cloud with a Kubernetes cluster, or ask for waas")
        self.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.root).free / 1e9
        if order.quota.storage_gb > free:
            raise NoQuota(f"storage: {order.quota.storage_gb:g} GB are wanted and {free:.0f} are free on this machine; ask for less")
        folder, storage = f"folder/{order.request}", f"storage/{order.request}"
        resources = [
            Resource("folder", order.request),
            Resource("storage", order.request, {"gb": order.quota.storage_gb}, (folder,)),
            Resource("token", order.request, {"right": "write", "until": order.until.isoformat()}, (folder,)),
        ]
        if not order.repository:
            resources.append(Resource("repository", order.request, {}, (folder,)))
        account = {"team": order.team, "owner": order.owner, "until": order.until.isoformat(), "quota": asdict(order.quota)}
        needs = tuple(one.key for one in resources)
        resources.append(Resource("account", order.request, account | {"repository": order.repository, "storage": storage}, needs))
        return Plan(self.name, order, resources, _OPEN, euros=0.0)

    def create(self, order: Order, resource: Resource) -> str:
        """Make a resource whole or not at all; gives where it is."""
        makers: Mapping[str, Callable[[Order, Resource], None]] = {
            "folder": self._make_folder,
            "storage": self._make_storage,
            "token": self._make_token,
            "repository": self._make_repository,
            "account": self._make_account,
        }
        with _explained(f"{resource.key} could not be made"):
            makers[resource.kind](order, resource)
        return str(self._place(order, resource).relative_to(self.root))

    def observe(self, order: Order, resource: Resource) -> Observed:
        """Look at what is there."""
        place = self._place(order, resource)
        there = place.exists()
        if resource.kind == "token" and there != self._has_token(order):
            return Observed(Status.BROKEN, message="the token is known to one side only; make it anew")
        return Observed(Status.READY if there else Status.ABSENT, str(place.relative_to(self.root)) if there else "")

    def destroy(self, order: Order, resource: Resource) -> None:
        """Take a resource away; the data of an environment go with it, so they are exported before."""
        place = self._place(order, resource)
        with _explained(f"{resource.key} could not be taken away"):
            if resource.kind == "token":
                self._forget_token(order)
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)

    def left(self, request: str) -> Sequence[str]:
        """List files, folders and tokens of a request."""
        folder = self.root / request
        found = [folder, *sorted(folder.rglob("*"))] if os.path.lexists(folder) else []
        named = TokenFile(self.tokens).tokens() if self.tokens.exists() else ()
        return [str(path.relative_to(self.root)) for path in found] + [f"token {token.name}" for token in named if token.name == request]

    def _place(self, order: Order, resource: Resource) -> Path:
        folder = self.root / order.request
        parts = {"folder": "", "storage": "storage", "token": "token.json", "repository": "repository.git", "account": _MARK}
        return folder / parts[resource.kind] if parts[resource.kind] else folder

    def _make_folder(self, order: Order, resource: Resource) -> None:
        self._place(order, resource).mkdir(mode=0o700, parents=True, exist_ok=True)

    def _make_storage(self, order: Order, resource: Resource) -> None:
        self._place(order, resource).mkdir(mode=0o700, exist_ok=True)

    def _make_token(self, order: Order, resource: Resource) -> None:
        """Make the token and the file that hands it over; where only one of them is there, both anew: nobody can read it a second time."""
        place = self._place(order, resource)
        if place.exists() and self._has_token(order):
            return
        self._forget_token(order)
        token = TokenFile(self.tokens).add(order.request, resource.settings["right"], f"{resource.settings['until']}T23:59:59Z")
        write_secret(place, json.dumps({"token": token, **self.services}, indent=1))

    def _make_repository(self, order: Order, resource: Resource) -> None:
        """Make a bare repository with a first workflow in it."""
        place = self._place(order, resource)
        if place.exists():
            return
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".making-") as name:
            bare, work = Path(name) / "bare", Path(name) / "work"
            _git("init", "-q", "--bare", "-b", "main", str(bare))
            _git("init", "-q", "-b", "main", str(work))
            dag_id = f"first_{order.request.replace('-', '_')}"
            (work / "first.py").write_text(_EXAMPLE.format(dag_id=dag_id, request=order.request), encoding="utf-8")
            _git("-C", str(work), "add", ".")
            _git("-C", str(work), "commit", "-q", "-m", "A first workflow")
            _git("-C", str(work), "push", "-q", str(bare), "main")
            bare.rename(place)

    def _make_account(self, order: Order, resource: Resource) -> None:
        write_secret(self._place(order, resource), json.dumps({"request": order.request, **resource.settings}, indent=1))

    def _has_token(self, order: Order) -> bool:
        return self.tokens.exists() and any(token.name == order.request for token in TokenFile(self.tokens).tokens())

    def _forget_token(self, order: Order) -> None:
        if self.tokens.exists():
            try:
                TokenFile(self.tokens).remove(order.request)
            except NotFound:
                return


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Say what went wrong as an engine says it."""
    try:
        yield
    except OSError as error:
        raise EngineBusy(f"{what}: {error.strerror or error} at {error.filename}; check the disk") from error
    except SignatureError as error:
        raise (EngineBusy if error.retry else EngineFailed)(f"{what}: {error}") from error


def _git(*words: str) -> None:
    """Run git without anybody's own settings, which may sign, call hooks or ask."""
    who = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "EarthSelf"), ("EMAIL", "earthself@localhost"))
    }
    env = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        **who,
    }
    try:
        done = subprocess.run(["git", *words], env=env, capture_output=True, timeout=_GIT_SECONDS, check=False)
    except FileNotFoundError:
        raise EngineFailed("there is no git on this machine; get it with: apt-get install git") from None
    except subprocess.TimeoutExpired:
        raise EngineBusy(f"git {words[0]} did not end within {_GIT_SECONDS:g} s; check the disk") from None
    if done.returncode:
        raise EngineFailed(f"git {words[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()[-_LONGEST:]}")
