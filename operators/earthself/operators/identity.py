"""Which signatures a request would make: the model's version, its legend and the version of the preprocessing.

Steps are processes, so the answer comes from one too: the packages of the steps are not imported here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from earthself.operators.errors import BadRequest, OperatorError

_SECONDS = 60
_ASK = """
import json, sys
from earthself.data.errors import EarthSelfError
from earthself.processing.masks import MaskOptions
from earthself.processing.models import load_card
try:
    card = load_card(sys.argv[1])
except EarthSelfError as error:
    sys.exit(f"{error}")
masks = {mask: MaskOptions(mask).preprocessing for mask in ("scl", "csmask", "none")}
print(json.dumps({"model": card.id, "legend": card.legend, "preprocessing": masks, "card": dict(card.document)}))
"""


@dataclass(frozen=True)
class Identity:
    """What a signature must carry to stand for one that would be made now."""

    model: str
    """`name:version`."""
    legend: str
    """Such as `clc:1`."""
    preprocessing: Mapping[str, str]
    """Version by mask that was used: `scl`, `csmask`, `none`."""
    card: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The model's card as JSON: classes, scores, limits."""

    def preprocessing_of(self, product: Mapping[str, Any], mask: str) -> str:
        """Give the version for a product when `mask` is asked for: `auto` takes the scene classification where there is one."""
        if mask == "auto":
            mask = "scl" if "SCL" in product.get("assets", {}) else "csmask"
        return self.preprocessing.get(mask, mask)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, fit for JSON."""
        return asdict(self)


def signature_identity(model: str) -> Identity:
    """Ask what signatures the model would make now; raises `BadRequest` for a model that is not there."""
    command = [sys.executable, "-c", _ASK, model]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise OperatorError(f"the steps did not say within {_SECONDS} s what model {model!r} is; is this machine overloaded?") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BadRequest(f"model {model!r} cannot be used: {reason}")
    found = json.loads(done.stdout)
    return Identity(found["model"], found["legend"], found["preprocessing"], found["card"])
