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


class AskedIdentity:
    """The question on its way: started at once, so that it runs beside other work."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ASK, model], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def answer(self) -> Identity:
        """Wait for it; raises `BadRequest` for a model that is not there."""
        try:
            out, err = self._process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise OperatorError(
                f"the steps did not say within {_SECONDS} s what model {self._model!r} is; is this machine overloaded?"
            ) from None
        if self._process.returncode:
            reason = (err.strip().splitlines() or ["no reason given"])[-1]
            raise BadRequest(f"model {self._model!r} cannot be used: {reason}")
        found = json.loads(out)
        return Identity(found["model"], found["legend"], found["preprocessing"], found["card"])
