"""One measured value, in the record that PerfKitBenchmarker publishes, and files of them (newline-delimited JSON).

The record is that of PerfKitBenchmarker's `NewlineDelimitedJSONPublisher`: its metadata are either an object `metadata` or one text
`labels`, `|name:value|,|name:value|`. Both are read; the second is written, since it is what that program writes unless told.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from earthself.benchmark.errors import BadSample

PRODUCT = "EarthSelf"
FAILED = "failed"
"""Metric of the sample that a probe leaves which could not measure; its labels `reason` and `error` say why."""
_LONGEST, _LONGEST_UNIT = 250, 100


@dataclass(frozen=True)
class Sample:
    """One measured value."""

    test: str
    """Name of the probe."""
    metric: str
    """What was measured."""
    value: float
    unit: str
    labels: Mapping[str, str]
    """Where and how: cloud, region, zone, offer, processor, image, and the probe's parameters."""
    timestamp: float
    """When, seconds since 1970."""
    run_uri: str
    """The same for all samples of one run of the probes."""
    sample_uri: str = field(default_factory=lambda: str(uuid.uuid4()))
    """No two samples have the same one."""

    def to_record(self) -> dict[str, Any]:
        """Give the record as PerfKitBenchmarker writes it."""
        return {
            "test": self.test, "metric": self.metric, "value": self.value, "unit": self.unit, "timestamp": self.timestamp,
            "run_uri": self.run_uri, "sample_uri": self.sample_uri, "product_name": PRODUCT, "official": False, "owner": "",
            "labels": ",".join(f"|{name}:{value}|" for name, value in self.labels.items()),
        }  # fmt: skip

    @classmethod
    def from_record(cls, record: Any) -> Sample:  # noqa: ANN401 - whatever was in the file
        """Read a record; raises `BadSample` with what is wrong with it."""
        if not isinstance(record, Mapping):
            raise BadSample(f"{json.dumps(record)[:80]} is no object")
        return cls(
            _text(record, "test"), _text(record, "metric"), _number(record, "value"), _unit(record), _labels(record),
            _number(record, "timestamp"), _text(record, "run_uri"), _text(record, "sample_uri"),
        )  # fmt: skip


def read(lines: Iterable[str], name: str) -> Iterator[Sample]:
    """Read a file's samples; raises `BadSample` with the file's name and the number of the line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield Sample.from_record(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise BadSample(f"{name}, line {number}: no JSON ({error})") from error
        except BadSample as error:
            raise BadSample(f"{name}, line {number}: {error}") from error


def write(samples: Iterable[Sample]) -> Iterator[str]:
    """Give the lines of a file."""
    for sample in samples:
        yield json.dumps(sample.to_record(), ensure_ascii=False) + "\n"


def _text(record: Mapping[str, Any], name: str) -> str:
    found = record.get(name)
    if not isinstance(found, str) or not 0 < len(found) <= _LONGEST:
        raise BadSample(f"{name} is {str(found)[:80]!r}; it must be a text of 1 to {_LONGEST} characters")
    return found


def _number(record: Mapping[str, Any], name: str) -> float:
    found = record.get(name)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not math.isfinite(found):
        raise BadSample(f"{name} is {str(found)[:80]}, which is no number")
    return float(found)


def _unit(record: Mapping[str, Any]) -> str:
    found = record.get("unit")
    if found is None:
        return ""
    if not isinstance(found, str) or len(found) > _LONGEST_UNIT:
        raise BadSample(f"unit is {str(found)[:80]!r}, which is no text of at most {_LONGEST_UNIT} characters")
    return found


def _labels(record: Mapping[str, Any]) -> dict[str, str]:
    said = record.get("metadata", record.get("labels", ""))
    if isinstance(said, Mapping):
        return {str(name): str(value) for name, value in said.items()}
    if not isinstance(said, str):
        raise BadSample(f"labels are {json.dumps(said)[:80]}, neither a text nor an object")
    if not said:
        return {}
    if not (said.startswith("|") and said.endswith("|") and len(said) > 1):
        raise BadSample(f"labels are {said[:80]!r}, not |name:value|,|name:value|")
    pairs = [part.partition(":") for part in said[1:-1].split("|,|")]
    if bad := next((name for name, colon, _ in pairs if not colon or not name), None):
        raise BadSample(f"the label {bad[:80]!r} has no value")
    return {name: value for name, _, value in pairs}
