"""Put a cloud-optimized GeoTIFF together from tiles that are compressed already.

GDAL's COG driver wants the finished image: it decodes it, makes the overviews in a temporary file and compresses everything again.
Here the image and each overview are plain tiled TIFFs, written while the pixels pass by; what is left to do is to lay out the headers
first and to copy the tiles, untouched, in the order that GDAL writes (https://gdal.org/en/stable/drivers/raster/cog.html#file-format-details).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_SUBFILE, _OFFSETS, _COUNTS = 254, 324, 325
_OF_THE_IMAGE_ONLY = {33550, 33922, 34264, 34735, 34736, 34737, 42112, 50844}
"""Georeference and GDAL's metadata: overviews inherit them."""
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value by TIFF type."""
_LONG, _LONG8 = 4, 16
_GHOST = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
_CLASSIC_LIMIT = 2**32 - 2**24
"""Bytes from which on a file needs 8-byte offsets, with room for the headers."""


@dataclass(frozen=True)
class _Tag:
    number: int
    kind: int
    """TIFF type."""
    data: bytes


@dataclass(frozen=True)
class _Level:
    """One tiled image: the whole, or an overview."""

    path: Path
    tags: tuple[_Tag, ...]
    """All but the places of the tiles, in ascending order."""
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]


def assemble(levels: Sequence[Path], target: Path) -> None:
    """Write a COG of `levels`: the image, then its overviews by falling size; each a tiled, pixel-interleaved BigTIFF."""
    images = [_read(path, overview=number > 0) for number, path in enumerate(levels)]
    big = sum(sum(image.sizes) + 24 * len(image.sizes) for image in images) > _CLASSIC_LIMIT
    start = _header_size(images, big=big)
    places: list[tuple[int, ...]] = []
    position = start
    for image in reversed(images):  # the smallest overview comes first
        here = []
        for size in image.sizes:
            here.append(position + 4 if size else 0)
            position += size + 8 if size else 0
        places.insert(0, tuple(here))
    with target.open("wb") as out:
        out.write(_headers(images, places, big=big))
        for image in reversed(images):
            _copy_tiles(image, out)


def _copy_tiles(image: _Level, out: BinaryIO) -> None:
    """Copy the tiles between the leader and the trailer that tell a reader their size and where a tile ends."""
    with image.path.open("rb") as source:
        for offset, size in zip(image.offsets, image.sizes, strict=True):
            if size:
                source.seek(offset)
                tile = source.read(size)
                out.write(struct.pack("<I", size))
                out.write(tile)
                out.write(tile[-4:])


def _read(path: Path, *, overview: bool) -> _Level:
    with path.open("rb") as file:
        order, version, _, _, place = struct.unpack("<2sHHHQ", file.read(16))
        if (order, version) != (b"II", 43):
            raise ValueError(f"{path.name} is not a little-endian BigTIFF")
        file.seek(place)
        (count,) = struct.unpack("<Q", file.read(8))
        tags = [_tag(file, place + 8 + 20 * index) for index in range(count)]
    kept = {tag.number: tag for tag in tags if not (overview and tag.number in _OF_THE_IMAGE_ONLY)}
    offsets, sizes = (_numbers(kept.pop(number)) for number in (_OFFSETS, _COUNTS))
    kept.pop(_SUBFILE, None)
    if overview:
        kept[_SUBFILE] = _Tag(_SUBFILE, _LONG, struct.pack("<I", 1))
    return _Level(path, tuple(kept[number] for number in sorted(kept)), offsets, sizes)


def _tag(file: BinaryIO, place: int) -> _Tag:
    file.seek(place)
    number, kind, count, value = struct.unpack("<HHQ8s", file.read(20))
    size = count * _BYTES[kind]
    if size > 8:
        file.seek(struct.unpack("<Q", value)[0])
        value = file.read(size)
    return _Tag(number, kind, value[:size])


def _numbers(tag: _Tag) -> tuple[int, ...]:
    letter = {3: "H", 4: "I", 16: "Q"}[tag.kind]
    return struct.unpack(f"<{len(tag.data) // _BYTES[tag.kind]}{letter}", tag.data)


def _headers(images: Sequence[_Level], places: Sequence[tuple[int, ...]], *, big: bool) -> bytes:
    """Everything before the tiles: the file's header, GDAL's note on the layout, and the directories, each followed by its values."""
    ghost = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_GHOST) + _GHOST
    ghost += b"\0" * (len(ghost) % 2)
    first = (16 if big else 8) + len(ghost)
    start = struct.pack("<2sHHHQ", b"II", 43, 8, 0, first) if big else struct.pack("<2sHI", b"II", 42, first)
    out = bytearray(start + ghost)
    for number, (image, offsets) in enumerate(zip(images, places, strict=True)):
        kind, letter = (_LONG8, "Q") if big else (_LONG, "I")
        tags = [
            *image.tags,
            _Tag(_OFFSETS, kind, struct.pack(f"<{len(offsets)}{letter}", *offsets)),
            _Tag(_COUNTS, _LONG, struct.pack(f"<{len(image.sizes)}I", *image.sizes)),
        ]
        out += _directory(sorted(tags, key=lambda tag: tag.number), len(out), last=number == len(images) - 1, big=big)
    return bytes(out)


def _header_size(images: Sequence[_Level], *, big: bool) -> int:
    return len(_headers(images, [(0,) * len(image.sizes) for image in images], big=big))


def _directory(tags: Sequence[_Tag], place: int, *, last: bool, big: bool) -> bytes:
    """One directory at `place`, its larger values behind it, and the link to the next directory, which follows at once."""
    inline, entry = (8, 20) if big else (4, 12)
    values_at = place + (8 if big else 2) + entry * len(tags) + inline
    entries, values = bytearray(), bytearray()
    for tag in tags:
        count = len(tag.data) // _BYTES[tag.kind]
        if len(tag.data) <= inline:
            value = tag.data.ljust(inline, b"\0")
        else:
            value = struct.pack("<Q" if big else "<I", values_at + len(values))
            values += tag.data + b"\0" * (len(tag.data) % 2)
        entries += struct.pack("<HHQ" if big else "<HHI", tag.number, tag.kind, count) + value
    following = 0 if last else values_at + len(values)
    number = struct.pack("<Q" if big else "<H", len(tags))
    return bytes(number + entries + struct.pack("<Q" if big else "<I", following) + values)
