"""When to leave a provider alone: after failure upon failure, or when it asks to, and then to ask it again with one request."""

from __future__ import annotations

from typing import Any

from earthself.data.broker.interface import NO_VERDICT, Resting

FAILURES = 20
"""Failures in a row, of all workers, after which the provider is left alone."""
_FIRST_REST, _LONGEST_REST = 30.0, 600.0
_PROBE = 60.0  # seconds for which the one request that tries again may take
_LONGEST_HOLD = 60.0  # seconds that workers wait where the provider asks to; for longer ones they are told
_LONGEST_ASKED = 86_400.0
_REFUSED = 403
_BUSY = 429


def check(state: dict[str, Any], provider: str, now: float, *, going: bool) -> float:
    """Raise `Resting` when the provider is left alone; gives the seconds to wait before asking, 0 for none.

    `state` is what this module keeps (nothing to begin with). `going` says that the request follows at once: when the rest is over, the
    first of those is let through alone.
    """
    asked = min(float(state.get("hold", 0.0)) - now, _LONGEST_ASKED)
    if asked > _LONGEST_HOLD:
        raise Resting(f"{provider} asked to be left alone for another {asked:.0f} s; try again then, or choose another provider", asked)
    if "until" not in state:
        return max(0.0, asked)
    left = min(float(state["until"]) - now, _LONGEST_REST)
    if left > 0:
        raise Resting(f"{provider} is left alone for another {left:.0f} s, since {state['reason']}; choose another provider", left)
    probe = min(float(state.get("probe", 0.0)) - now, _PROBE)
    if probe > 0:
        raise Resting(f"{provider} is being tried with one request, since {state['reason']}; try again soon", min(5.0, probe))
    if going:
        state["probe"] = now + _PROBE
    return max(0.0, asked)


def answered(state: dict[str, Any], status: int, wait: float | None, now: float) -> None:
    """Take into account how a request ended: a status, or 0 for no answer; `wait` is what the provider asks for.

    A login that is missing or over says nothing about the provider; a refusal (403) may be a ban, and counts.
    """
    wait = None if wait is None else min(wait, _LONGEST_ASKED)
    if status == NO_VERDICT:
        state.pop("probe", None)
        return
    if status == _BUSY:
        state["busy"] = busy = min(7, int(state.get("busy", 0)) + 1)
        state["hold"] = max(float(state.get("hold", 0.0)), now + (min(60.0, 2.0 ** (busy - 1)) if wait is None else wait))
        state["asked"] = "the provider has had enough requests for now (429)"
        state.pop("probe", None)
        return
    if status and status < 500 and status != _REFUSED:
        for name in ("failures", "until", "probe", "reason", "rest", "busy"):
            state.pop(name, None)
        return
    if wait:
        state["hold"] = max(float(state.get("hold", 0.0)), now + wait)
        state["asked"] = f"the provider asked to wait ({status})"
    state["failures"] = failures = int(state.get("failures", 0)) + 1
    tried = "probe" in state
    if not tried and (failures < FAILURES or "until" in state):
        return
    rest = min(_LONGEST_REST, float(state.get("rest", _FIRST_REST / 2)) * 2)
    what = "gave no answer" if not status else f"refused with {status}" if status == _REFUSED else f"answered {status}"
    state |= {"rest": rest, "until": now + rest, "reason": f"it {what}, {failures} failures in a row"}
    state.pop("probe", None)


def standing(state: dict[str, Any], now: float) -> tuple[str, str, float]:
    """`closed`, `open`, `half-open` or `holding`, the reason, and the seconds until it may be asked again."""
    if "until" in state:
        left = float(state["until"]) - now
        return ("open", str(state["reason"]), left) if left > 0 else ("half-open", str(state["reason"]), 0.0)
    asked = float(state.get("hold", 0.0)) - now
    return ("holding", str(state["asked"]), asked) if asked > 0 else ("closed", "", 0.0)
