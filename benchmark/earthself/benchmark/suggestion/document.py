"""An answer as JSON: the same answer gives the same bytes, `schemas/answer.schema.json` says what stands in them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from earthself.benchmark.suggestion import words
from earthself.benchmark.suggestion.answer import Answer, Choice, Excluded
from earthself.benchmark.suggestion.estimate import Candidate
from earthself.benchmark.suggestion.values import Value

SCHEMA = "https://earthself.org/schemas/answer-1.json"
_NEAREST = 10
"""Offers that miss the need by least, shown one by one."""


def document(answer: Answer, most: int = 50) -> dict[str, Any]:
    """Give an answer as plain types with its first `most` choices; what nobody knows is left out, it is never null or 0."""
    return {
        "schema": SCHEMA,
        "day": answer.today.isoformat(),
        "state": answer.state,
        "data_state": answer.data_state,
        "said": words.said(answer),
        "need": _known(answer.need.to_document()),
        "operator": _known({"name": answer.operator.name or None, "earns_from": answer.operator.earns_from}),
        "counts": {
            "choices": len(answer.choices),
            "ranked": sum(one.rank is not None for one in answer.choices),
            "excluded": len(answer.excluded),
            "unpriced": answer.unpriced,
        },
        "no_ranking": answer.no_ranking,
        "choices": [_choice(one) for one in answer.choices[:most]],
        "excluded": {
            "by_constraint": dict(answer.reasons),
            "nearest": [_excluded(one) for one in answer.excluded[:_NEAREST]],
        },
        "weights": [
            {
                "name": one.criterion.name, "unit": one.criterion.unit, "weight": one.criterion.weight, "best": one.criterion.best,
                "worst": one.criterion.worst, "source": one.criterion.source, "low": one.low, "high": one.high,
            }
            for one in answer.weights
        ],
        "to_measure": [{"what": one.what, "offers": one.offers, "command": one.command} for one in answer.to_measure],
    }  # fmt: skip


def text(answer: Answer, most: int = 50) -> str:
    """Give an answer as the text of a file."""
    return json.dumps(document(answer, most), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _choice(one: Choice) -> dict[str, Any]:
    found, ranked = one.estimate, {} if one.rank is None else {"rank": one.rank, "score": one.score}
    return {
        **_place(one.candidate),
        **ranked,
        "steps": found.steps,
        "machines": found.machines,
        "hours": _value(found.hours),
        "euros": _value(found.euros),
        "tile_euros": _value(found.tile_euros),
        "costs": {name: _value(value) for name, value in found.costs.items()},
        "price": _value(one.price),
        "carbon": _value(one.carbon),
        "data": _value(one.near),
        "deciding": {name: _value(value) for name, value in found.deciding.items()},
        "measured_share": found.measured,
        "front": one.front,
        "unranked": list(one.unranked),
        "warnings": list(one.warnings),
    }


def _excluded(one: Excluded) -> dict[str, Any]:
    misses = [{"constraint": miss.constraint, "reason": miss.reason, "gap": miss.gap} for miss in one.misses]
    return {**_place(one.candidate), "misses": misses}


def _place(candidate: Candidate) -> dict[str, Any]:
    offer, price = candidate.offer, candidate.price
    return _known({
        "cloud": price.cloud, "region": price.region, "zone": price.zone or None, "country": candidate.country, "offer": offer.offer,
        "vcpus": offer.vcpus, "memory_gib": offer.memory_gib, "gpus": offer.gpus, "cpu_model": offer.cpu_model,
        "architecture": offer.architecture, "data_near": candidate.near,
        "paid": {
            "allocation": price.allocation.value, "amount": price.amount, "currency": price.currency, "upfront": price.upfront or None,
            "term_months": price.term_months, "valid_until": price.valid_until,
            "source": {"name": price.source.name, "url": price.source.url, "day": price.source.day},
        },
    })  # fmt: skip


def _value(value: Value) -> dict[str, Any]:
    return _known({
        "value": value.value, "unit": value.unit, "badge": value.badge.value, "low": value.low, "high": value.high, "day": value.day,
        "count": value.count, "note": value.note or None,
    })  # fmt: skip


def _known(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Give fields without what is unknown, and without numbers that JSON does not have."""
    return {name: _plain(value) for name, value in fields.items() if value is not None and not _endless(value)}


def _plain(value: Any) -> Any:  # noqa: ANN401 - what a dataclass holds
    if isinstance(value, Mapping):
        return _known(value)
    if isinstance(value, date):
        return value.isoformat()
    return [_plain(one) for one in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def _endless(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
