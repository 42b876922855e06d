"""Sentinel-2 products that come as one archive (SAFE in a zip): finding a band inside, and taking it out."""

from __future__ import annotations

import contextlib
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from earthself.data.errors import Damaged, NotThere
from earthself.data.sentinel2 import BANDS, SCL_RESOLUTION
from earthself.data.workspace import atomic

_IMAGE = re.compile(r"(?:.*[_/])?(?P<band>B0[1-9]|B1[0-2]|B8A|SCL)(?:_(?P<resolution>[126]0)m)?\.(?:jp2|tiff?)", re.IGNORECASE | re.ASCII)
_METADATA = re.compile(r"(?:[^/]+/)?MTD_MSIL(?:1C|2A)\.xml", re.IGNORECASE | re.ASCII)

MOST_METADATA = 5_000_000
"""Bytes that no product's metadata document reaches."""
_MOST_BAND = 1 << 30  # a whole tile in 10 m, unpacked, has 241 MB
# What zipfile raises for bytes that are no archive, or one that nobody can unpack: broken, encrypted, packed in an unknown way.
_BROKEN = (zipfile.BadZipFile, EOFError, zlib.error, RuntimeError, NotImplementedError)


def bands(archive: Path) -> dict[str, str]:
    """The member that holds each band, in its native resolution where the product has several; `Damaged` when it is no zip."""
    found: dict[str, tuple[int, str]] = {}
    for name in _members(archive):
        image = _IMAGE.fullmatch(name)
        if not image or "/QI_DATA/" in name:
            continue
        band = image["band"].upper()
        native = SCL_RESOLUTION if band == "SCL" else BANDS[band].resolution
        distance = abs(int(image["resolution"] or native) - native)
        if band not in found or (distance, name) < found[band]:
            found[band] = (distance, name)
    return {band: name for band, (_, name) in sorted(found.items())}


def metadata(archive: Path) -> bytes | None:
    """The product's own metadata document, or None where the archive has none; `Damaged` when it cannot be unpacked."""
    name = next((n for n in _members(archive) if _METADATA.fullmatch(n)), None)
    if name is None:
        return None
    with _member(archive, name, MOST_METADATA) as source:
        return source.read()


def member_path(archive: Path, band: str) -> str:
    """GDAL's path of a band inside the archive; `NotThere` when the product lacks it."""
    held = bands(archive)
    if band not in held:
        raise NotThere(f"{archive.name} has no band {band}; it has {', '.join(held) or 'no bands'}")
    return f"/vsizip/{{{archive}}}/{held[band]}"


def extract(archive: Path, band: str, folder: Path) -> Path:
    """Take one band out to `folder`, whole or not at all; the name is the band's, never the archive's.

    Raises `NotThere` when the product lacks it, `Damaged` when it cannot be unpacked.
    """
    member = member_path(archive, band).partition("}/")[2]
    path = folder / f"{band}{PurePosixPath(member).suffix.lower()}"
    with _member(archive, member, _MOST_BAND) as source, atomic(path) as part, part.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    return path


def check(archive: Path) -> None:
    """Raise `Damaged` when the file is not an archive with its table of contents, as a cut one is not."""
    _members(archive)


@contextlib.contextmanager
def _member(archive: Path, name: str, most: int) -> Iterator[IO[bytes]]:
    """Open one file of the archive, which must have at most so many bytes unpacked (zipfile gives no more than are stated)."""
    try:
        with zipfile.ZipFile(archive) as file:
            if (size := file.getinfo(name).file_size) > most:
                raise Damaged(f"{name} in {archive.name} has {size} bytes unpacked, which no such file has; choose another provider")
            with file.open(name) as source:
                yield source
    except _BROKEN as error:
        raise Damaged(f"{archive.name} is damaged at {name} ({error}); remove it and fetch the product again") from error


def _members(archive: Path) -> list[str]:
    try:
        with zipfile.ZipFile(archive) as file:
            return file.namelist()
    except _BROKEN as error:
        raise Damaged(f"{archive.name} is not a whole zip archive ({error}); fetch the product again") from error
