"""The step runtime and the built-in steps: what runs in containers or in a process of its own.

A creator's step needs three names: the context it is given, the result it returns, and `step_main`, which makes a
function into a program that keeps the step contract.
"""

from __future__ import annotations

from earthself.processing.errors import BadInput, ProcessingError, TryAgain
from earthself.processing.step import StepContext, StepResult, step_main

__all__ = ["BadInput", "ProcessingError", "StepContext", "StepResult", "TryAgain", "step_main"]
