"""How long-running programs of ours log: a line for people, or one JSON object a record for whoever collects the logs of all.

The fields are those of Airflow's JSON logs, so that one question finds the lines of all parts. Secrets are masked in both.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from typing import TextIO

from earthself.data.errors import BadInput

FORMAT = "EARTHSELF_LOG_FORMAT"
"""Variable: `text` (the default) or `json`."""
_TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_SECRETS = (
    (re.compile(r"\bess_([0-9a-f]{16})_[A-Za-z0-9_-]{43}"), r"ess_\1_***"),
    (re.compile(r"\b((?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), r"\1***"),
    (re.compile(r"(://[^/\s:@'\"]*:)[^@/\s'\"]+@"), r"\1***@"),
    (re.compile(r"\beyJ[A-Za-z0-9._-]{10,}"), "eyJ***"),
)
"""Tokens of EarthSignature, authorizations, passwords in addresses, JSON web tokens."""


def configure(stream: TextIO = sys.stderr, form: str | None = None) -> None:
    """Send the records of this process there, our own from INFO on, those of libraries from WARNING on.

    `form` is `text` or `json`, by default what EARTHSELF_LOG_FORMAT says; raises `BadInput` for another one.
    """
    form = form or os.environ.get(FORMAT) or "text"
    if form not in ("text", "json"):
        raise BadInput(f"{FORMAT}={form!r} is no form of logs; choose text or json")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Masked(logging.Formatter(_TEXT) if form == "text" else _json()))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("earthself").setLevel(logging.INFO)


def masked(text: str) -> str:
    """Take secrets out of a text."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class _Masked(logging.Formatter):
    """Formats like another one, without secrets; also in tracebacks."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return masked(self._inner.format(record))


def _json() -> logging.Formatter:
    import structlog

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(),
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer(ensure_ascii=False)],
    )
