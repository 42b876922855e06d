"""Stores of many products, made quickly: the rasters of all are copies of those of the first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from earthself.data.dates import format_instant
from earthself.signature.making import V1_LAYERS
from earthself.signature.product import from_feature
from earthself.signature.store import Store
from earthself.signature.testing import GRID, feature, layers

NOISY = replace(GRID, width=600, height=600)
"""6 by 6 km."""
CODES = np.array([111, 112, 121, 211, 231, 243, 311, 312, 313, 321, 324, 411, 511, 512], "uint16")


def noise(grid=NOISY):
    """Codes that compress badly: more than 200 kB for 600 by 600 pixels."""
    return np.random.default_rng(3).choice(CODES, (grid.height, grid.width))


def hourly(number):
    """The feature of P0000, P0001, …, an hour apart, on the usual grid."""
    when = datetime(2017, 1, 1, tzinfo=UTC) + timedelta(hours=number)
    return feature(f"P{number:04}", NOISY, creation_date=format_instant(when))


def fill(home, number, pixels=None, grid=NOISY, said=hourly):
    """Store so many products, `said` gives the feature of each; gives the bytes that v1 sends of one."""
    store = Store.open(home)
    with store.upload() as upload:
        for layer, content in layers(noise(grid) if pixels is None else pixels, grid=grid).items():
            upload.path(layer).write_bytes(content)
        store.create(from_feature(said(0)), upload, V1_LAYERS)
    first = store.get(said(0)["id"])
    folder = home / "products" / first.folder
    for product in (from_feature(said(count)) for count in range(1, number)):
        store.take(replace(first, product=product, digest=product.digest()), folder)
    store.close()
    return sum((folder / f"{layer}.tif").stat().st_size for layer in V1_LAYERS)


def fields(grid=NOISY):
    """Codes in fields of 80 m with some pixels of others between them."""
    chance = np.random.default_rng(1)
    pixels = np.kron(chance.choice(CODES, (grid.height // 8, grid.width // 8)), np.ones((8, 8), "uint16"))
    other = chance.random(pixels.shape) < 0.03
    pixels[other] = chance.choice(CODES, other.sum())
    return pixels
