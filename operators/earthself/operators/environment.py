"""Which of the worker's environment variables a step sees: those of the machine, not the platform's own, and no secrets.

A step may be anybody's program; what it needs of the platform comes to it by docs/steps.md, a secret by the operator's `env`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_PLATFORM = re.compile(r"_*(AIRFLOW|EARTHSELF)", re.IGNORECASE)
_FOR_STEPS = frozenset({"EARTHSELF_MODELS", "EARTHSELF_IMAGE", "EARTHSELF_COMMIT", "EARTHSELF_STACK"})
"""Of the platform's own: registries of models, what the manifest says of the code, and the mark by which the stack finds its processes."""
_SECRET = frozenset(
    {"PASSWORD", "PASSWD", "PASSPHRASE", "PASS", "PW", "SECRET", "SECRETS", "TOKEN", "CREDENTIAL", "CREDENTIALS", "KEY", "APIKEY", "DSN"}
)
"""A variable with one of these among the words of its name holds a secret, or the way to one."""
_PASSWORD_IN_URL = re.compile(r"://[^/@\s:]*:[^/@\s]+@")


def for_steps(environ: Mapping[str, str]) -> dict[str, str]:
    """Give what a step may see of an environment. Proxies stay as they are: without them nothing reaches the net."""
    return {name: value for name, value in environ.items() if _harmless(name, value)}


def _harmless(name: str, value: str) -> bool:
    if _PLATFORM.match(name):
        return name in _FOR_STEPS
    if name.upper().endswith("_PROXY"):
        return True
    words = name.upper().split("_")
    return not (_SECRET & set(words) or words[-1].endswith("PASSWORD") or _PASSWORD_IN_URL.search(value))
