"""The local stack: Airflow, EarthSignature and the sample provider on one machine, under one supervisor.

It starts the other folders as processes and imports none of them, so that it works with whatever version of them is installed.
"""

from __future__ import annotations

from earthself.local.errors import BadSetting, LocalError, NotReady, PortTaken
from earthself.local.settings import Settings
from earthself.local.stack import Stack

__all__ = ["BadSetting", "LocalError", "NotReady", "PortTaken", "Settings", "Stack"]
