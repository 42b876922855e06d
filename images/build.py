"""Builds our container images with podman, buildah or docker, whichever is there; each with the list of what is in it (SBOM) beside it.

`make images` calls this. The Containerfiles stand beside; here is what they cannot say: what a build sees of the clone, of this machine's
settings (mounted, in no layer), and of the commit, so that the same commit on the same base gives the same image.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ("processing", "earthsignature", "airflow", "probes")
BASE = "docker.io/library/debian:bookworm-slim"
SOURCES = (
    "requirements.lock",
    "client",
    "data_access",
    "benchmark",
    "helpdesk_bridge",
    "deploy/provision",
    "images",
    "operators",
    "plugins",
    "dags",
)
"""What the images are made from; a build sees nothing else of the clone."""
HOW_TO_GET = "no podman, buildah or docker; get one with: apt-get install podman"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_TOLD = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INDEX_STRATEGY", "UV_HTTP_TIMEOUT", "UV_INSECURE_HOST")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


class CannotBuild(Exception):
    """Nothing was built; the message says what to do."""

    exit_code = 1


class NoBuilder(CannotBuild):
    """No program that builds images is here."""

    exit_code = 69


@dataclass(frozen=True)
class Commit:
    """What is built."""

    revision: str
    """The commit, with `-dirty` where tracked files differ from it."""
    created: str
    """When it was made, RFC 3339."""
    source: str
    """Address of the repository, where this clone has one on the web."""
    layers: int
    """Seconds since 1970 that files in layers get: when the lock changed last, so that the large layer stays the same from then on."""


@dataclass(frozen=True)
class Built:
    """An image."""

    reference: str
    """Name and tag."""
    id: str
    """SHA-256 of its configuration: what `docker image ls` shows, and a kubelet for an image that came from no registry."""
    digest: str
    """SHA-256 of its manifest in the builder's store; a registry answers a push with its own, since it keeps layers compressed."""
    bytes: int
    """Size of its layers, unpacked."""
    sbom: str
    """File that lists what is in it, CycloneDX JSON."""


@dataclass(frozen=True)
class Where:
    """What builds share."""

    context: Path
    """The folder that they see."""
    mounts: Sequence[str]
    """Options that mount this machine's settings."""
    layers: int
    """See `Commit.layers`."""
    labels: Mapping[str, str]
    """What the Containerfiles' arguments are."""
    out: Path
    """Folder for the lists of what is in the images."""


@dataclass(frozen=True)
class Builder:
    """A program that builds images."""

    name: str
    """`podman`, `buildah` or `docker`."""

    def pull(self, reference: str) -> None:
        """Fetch an image; raises `CannotBuild` with what the builder complained about."""
        done = subprocess.run([self.name, "pull", "-q", reference], capture_output=True, check=False)
        if done.returncode:
            raise CannotBuild(f"{self.name} pull {reference} ended with {done.returncode}:\n{done.stderr.decode(errors='replace')[-4000:]}")

    def build(self, containerfile: Path, where: Where, words: Sequence[str]) -> None:
        """Build; what it says goes to standard error as it comes."""
        if self.name == "docker":
            own = ["--progress", "plain", "--build-arg", f"SOURCE_DATE_EPOCH={where.layers}"]
        else:  # health checks are known to docker's format alone; buildah keeps no intermediate layers by itself
            own = ["--format", "docker", "--layers", "--timestamp", str(where.layers)]
        command = [self.name, "build", "--network", "host", "--file", str(containerfile), *own, *where.mounts, *words, str(where.context)]
        if code := subprocess.run(command, stdout=sys.stderr, check=False).returncode:
            raise CannotBuild(f"{self.name} build ended with {code}; what it said stands above")

    def facts(self, reference: str) -> tuple[str, str, int] | None:
        """Give an image's id, digest and bytes; None for one that is not in the builder's store."""
        if self.name == "buildah":
            said = subprocess.run(["buildah", "inspect", "--type", "image", reference], capture_output=True, check=False)
            if said.returncode:
                return None
            about = json.loads(said.stdout)
            layers = json.loads(about["Manifest"])["layers"]
            return f"sha256:{about['FromImageID']}", about["FromImageDigest"], sum(int(layer["size"]) for layer in layers)
        said = subprocess.run([self.name, "image", "inspect", reference], capture_output=True, check=False)
        if said.returncode:
            return None
        about = json.loads(said.stdout)[0]
        digest = about.get("Digest") or next((each.partition("@")[2] for each in about.get("RepoDigests") or ()), "") or about["Id"]
        return f"sha256:{about['Id'].removeprefix('sha256:')}", digest, int(about["Size"])


def builder(name: str | None = None) -> Builder:
    """Find one; raises `NoBuilder` with how to get it."""
    for each in (name,) if name else ("podman", "buildah", "docker"):
        if shutil.which(each) and (
            each != "docker" or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
        ):
            return Builder(each)
    raise NoBuilder(f"there is no {name} here, or it does not answer" if name else HOW_TO_GET)


def commit() -> Commit:
    """Say what is built; raises `CannotBuild` outside of a clone."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotBuild(f"git {words[0]} says {done.stderr.strip()}; images are built from a clone, whose commit they name")
        return done.stdout.strip()

    dirty = "-dirty" if git("status", "--porcelain", "--untracked-files=no") else ""
    layers = git("log", "-1", "--format=%ct", "--", "requirements.lock")
    origin = subprocess.run(["git", "config", "remote.origin.url"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    address = urlsplit(origin)
    source = f"https://{address.hostname}{address.path}" if address.scheme == "https" else ""
    return Commit(git("rev-parse", "HEAD") + dirty, git("log", "-1", "--format=%cI"), source, int(layers))


@contextmanager
def context() -> Iterator[Path]:
    """Gather what builds see: the sources that git knows or would, and uv of the lock for the image's machine."""
    with tempfile.TemporaryDirectory(prefix="earthself-images-") as made:
        folder = Path(made)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *SOURCES],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        machine = {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
        trusting = {"UV_SYSTEM_CERTS": "1", **os.environ}
        uv = [sys.executable, "-m", "uv", "pip", "install", "-q", "--target", str(folder / "uv"), "--python-platform"]
        wanted = [f"{machine}-manylinux_2_28", "-c", "requirements.lock", "uv"]
        if subprocess.run([*uv, *wanted], cwd=ROOT, env=trusting, check=False).returncode:
            raise CannotBuild("uv could not be had for the image's machine; what it said stands above")
        yield folder


@contextmanager
def secrets() -> Iterator[list[str]]:
    """Hand over how this machine reaches its package index, as mounts that no layer keeps."""
    with tempfile.TemporaryDirectory(prefix="earthself-images-") as made:
        folder = Path(made)
        told = {name: value for name in (*_TOLD, *_PROXIES) if (value := os.environ.get(name))}
        (folder / "settings").write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in told.items()))
        trusted = Path(os.environ.get("SSL_CERT_FILE") or CERTIFICATES)
        (folder / "certificates").write_bytes(trusted.read_bytes() if trusted.is_file() else b"")
        yield [word for name in ("settings", "certificates") for word in ("--secret", f"id={name},src={folder / name}")]


def base_digest(tool: Builder, base: str) -> str:
    """Have the base in the builder's store and give its digest, for the label."""
    there = tool.facts(base)
    if there is None:
        tool.pull(base)
        there = tool.facts(base)
    return there[1] if there else ""


def version() -> str:
    """Version of the images: that of the distributions."""
    return str(tomllib.loads((ROOT / "images/processing/pyproject.toml").read_text())["project"]["version"])


def build(tool: Builder, name: str, reference: str, where: Where) -> Built:
    """Build an image and the list of what is in it."""
    images = where.context / "images"
    words = [word for key, value in where.labels.items() for word in ("--build-arg", f"{key}={value}")]
    tool.build(images / name / "Containerfile", where, [*words, "--tag", reference])
    facts = tool.facts(reference)
    if facts is None:
        raise CannotBuild(f"{tool.name} built {reference} and does not know it")
    with tempfile.TemporaryDirectory(prefix="earthself-images-") as made:
        words = [
            "--build-arg",
            f"IMAGE={reference}",
            "--build-arg",
            f"VERSION={where.labels['VERSION']}",
            "--output",
            f"type=local,dest={made}",
        ]
        tool.build(images / "Containerfile.sbom", where, words)
        where.out.mkdir(parents=True, exist_ok=True)
        part = Path(shutil.copy(Path(made) / "sbom.cdx.json", where.out / f".{name}.part"))
        sbom = part.rename(where.out / f"{name}.cdx.json")
    return Built(reference, *facts, sbom=str(sbom))


def line(one: Built) -> str:
    """Say for people what was built."""
    return f"{one.reference}  {one.bytes / 1e6:.0f} MB  {one.digest}\n  what is in it: {one.sbom}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the images that are named, or all; returns the exit code."""
    parser = argparse.ArgumentParser(prog="images/build.py", description="Build container images and their SBOMs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(IMAGES)}; all where none is named")
    parser.add_argument("--base", default=BASE, help=f"image of Debian to build on, best with its digest ({BASE})")
    parser.add_argument("--prefix", default="localhost/earthself-", help="what image names begin with (localhost/earthself-)")
    parser.add_argument("--tag", default=version(), help="their tag (%(default)s)")
    parser.add_argument("--with", dest="tool", choices=("podman", "buildah", "docker"), help="the builder; the first that is there")
    parser.add_argument(
        "--out", type=Path, default=Path(os.environ.get("EARTHSELF_HOME", ROOT / ".earthself")) / "images", help="for SBOMs"
    )
    parser.add_argument("--json", action="store_true", help="say what was built for machines")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.names) - set(IMAGES)):
        parser.error(f"there is no image {unknown[0]!r}; choose from {', '.join(IMAGES)}")
    try:
        tool, what = builder(given.tool), commit()
        labels = {
            "BASE": given.base, "BASE_DIGEST": base_digest(tool, given.base), "VERSION": version(),
            "REVISION": what.revision, "CREATED": what.created, "SOURCE": what.source,
        }  # fmt: skip
        with context() as folder, secrets() as mounts:
            where = Where(folder, mounts, what.layers, labels, given.out)
            built = {name: build(tool, name, f"{given.prefix}{name}:{given.tag}", where) for name in given.names or IMAGES}
    except CannotBuild as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    said = json.dumps({name: asdict(one) for name, one in built.items()}, indent=1) if given.json else "\n".join(map(line, built.values()))
    sys.stdout.write(said + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
