"""How well answers meet the truth: F1 per class with intervals, coverage, and what the project promises about the parcels.

A pixel without a class counts as missed. Each site weighs the same, however many pixels it has. The intervals are 95 %
percentiles of a bootstrap over blocks (dates of the parcels, squares and rectangles of the patches), since neighbouring pixels
say the same thing twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
from earthself.processing.training.truth import BUILT, CODE_OF_KIND, FIELD, OTHER, Truth

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODES = (0, 1, 2, 3, 5)
"""What a pixel may be called; 0 is no class."""
RESAMPLES = 500
_PER_CLASS = ("f1", "precision", "recall", "coverage")
FEWEST = 30
"""Clear pixels of a kind that a date must have to be judged by itself."""


@dataclass(frozen=True)
class Said:
    """Decided codes of some rows of the truth."""

    rows: NDArray[np.intp]
    """(m) rows."""
    codes: NDArray[np.uint16]
    """(m)."""
    flags: NDArray[np.uint8]
    """(m)."""

    def where(self, rows: NDArray[np.bool_]) -> Said:
        """Keep the answers about some rows of the truth, (n)."""
        kept = rows[self.rows]
        return Said(self.rows[kept], self.codes[kept], self.flags[kept])


def classes(truth: Truth, said: Said, seed: int = 0) -> dict[str, Any]:
    """Macro-F1, F1 of each class, and coverage of the rows whose CORINE class is known, with intervals."""
    known = CODE_OF_KIND[truth.kind[said.rows]] > 0
    if not known.any():
        return {}
    rows, codes = said.rows[known], said.codes[known]
    tables, sites = _tables(truth, rows, codes)
    present = [c for c in (1, 2, 3, 5) if tables[:, CODES.index(c)].sum() > 0]
    value = _figures(tables, sites, present)
    random = np.random.default_rng(seed)
    drawn = np.stack([_figures(*_draw(tables, sites, random), present) for _ in range(RESAMPLES)])
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    names = ["macro_f1", "coverage", *[f"{figure}_{c}" for figure in _PER_CLASS for c in present]]
    found = {name: _interval(value[i], low[i], high[i]) for i, name in enumerate(names)}
    return {
        "macro_f1": found["macro_f1"],
        "coverage": found["coverage"],
        "pixels": int(known.sum()),
        "blocks": len(tables),
        "classes": {
            str(c): {name: found[f"{name}_{c}"] for name in _PER_CLASS} | {"pixels": int(tables[:, CODES.index(c)].sum())} for c in present
        },
    }


def summary(ways: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Put the figures that a reader needs first: macro-F1 and F1 of each class, `names` says how each way is called."""
    found: dict[str, dict[str, Any]] = {}
    for way, title in names.items():
        if way not in ways:
            continue
        figures = {f"macro-F1, {title}": ways[way]["macro_f1"]}
        figures |= {f"F1 of code {code}, {title}": one["f1"] for code, one in ways[way]["classes"].items()}
        found |= {name: {"value": one["value"], "95 % interval": [one["low"], one["high"]]} for name, one in figures.items()}
    return found


def parcels(truth: Truth, said: Said) -> dict[str, dict[str, Any]]:
    """Judge each parcel site by date: fields called forest, farmyards called fields, and how much gets a class."""
    found = {}
    at = truth.of("parcels")[said.rows]
    for number, site in enumerate(truth.sites):
        here = at & (truth.site[said.rows] == number)
        if here.any():
            found[site] = _by_date(truth, said, here)
    return found


def shares(said: Said) -> dict[str, float]:
    """Share of the rows under each code, and of those without one by their flag."""
    named = {f"called {code}": float((said.codes == code).mean()) for code in CODES[1:]}
    flags = {"novel": float(((said.flags & 16) > 0).mean()), "no class": float(((said.flags & 32) > 0).mean())}
    return {name: round(value, 4) for name, value in (named | flags).items()}


def _by_date(truth: Truth, said: Said, here: NDArray[np.bool_]) -> dict[str, Any]:
    kind, day = truth.kind[said.rows][here], truth.day[said.rows][here]
    codes = said.codes[here]
    judged: dict[str, dict[str, float]] = {}
    for one in np.unique(day):
        then = day == one
        judged[date.fromordinal(int(one)).isoformat()] = {
            name: float((codes[then & (kind == of)] == code).mean())
            for name, of, code in (
                ("fields_called_forest", FIELD, 3),
                ("fields_called_built_up", FIELD, 1),
                ("fields_called_fields", FIELD, 2),
                ("built_up_called_fields", BUILT, 2),
                ("built_up_called_built_up", BUILT, 1),
                ("village_called_fields", OTHER, 2),
            )
            if (then & (kind == of)).sum() >= FEWEST
        }
    names = sorted({name for figures in judged.values() for name in figures})
    return {"clear_dates": len(judged)} | {name: _worst(name, {d: f[name] for d, f in judged.items() if name in f}) for name in names}


def _worst(name: str, figures: Mapping[str, float]) -> dict[str, Any]:
    rightly = name in {"fields_called_fields", "built_up_called_built_up"}
    day = (min if rightly else max)(figures, key=lambda d: figures[d])
    return {"mean": round(float(np.mean(list(figures.values()))), 4), "worst": round(figures[day], 4), "worst_date": day}


def _tables(truth: Truth, rows: NDArray[np.intp], codes: NDArray[np.uint16]) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Confusion (blocks, true, said) in the order of `CODES`, and the site of each block."""
    names, block = np.unique(truth.block[rows], return_inverse=True)
    true = np.searchsorted(CODES, CODE_OF_KIND[truth.kind[rows]])
    size = len(CODES)
    flat = np.bincount((block * size + true) * size + np.searchsorted(CODES, codes), minlength=len(names) * size * size)
    sites = np.zeros(len(names), np.int16)
    sites[block] = truth.site[rows]
    return flat.reshape(-1, size, size).astype(np.float64), sites


def _draw(
    tables: NDArray[np.float64], sites: NDArray[np.int16], random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    chosen = np.concatenate([random.choice(np.flatnonzero(sites == s), (sites == s).sum()) for s in np.unique(sites)])
    return tables[chosen], sites[chosen]


def _figures(tables: NDArray[np.float64], sites: NDArray[np.int16], present: Sequence[int]) -> NDArray[np.float64]:
    per_site = [tables[sites == s].sum(axis=0) for s in np.unique(sites)]
    table = np.sum([t / t.sum() for t in per_site], axis=0)
    index = [CODES.index(c) for c in present]
    right = np.diag(table)[index]
    true, called = table.sum(axis=1)[index], table.sum(axis=0)[index]
    # A class that a resample lacks has no figure there; one that is never called has no right answer either.
    with np.errstate(invalid="ignore", divide="ignore"):
        f1, recall, covered = 2 * right / (true + called), right / true, 1 - table[index, 0] / true
    precision = np.divide(right, called, out=np.zeros_like(right), where=called > 0)
    return np.array([f1.mean(), 1 - table[:, 0].sum() / table.sum(), *f1, *precision, *recall, *covered])


def _interval(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": round(float(value), 4), "low": round(float(low), 4), "high": round(float(high), 4)}
