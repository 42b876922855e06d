"""Logs of our servers: one JSON object a record where that is wanted, and no secrets in either form."""

from __future__ import annotations

import io
import json
import logging

import pytest
from earthself.data import logs
from earthself.data.errors import BadInput

TOKEN = "ess_0123456789abcdef_" + "x" * 43


@pytest.fixture
def logged(monkeypatch):
    """Configure the form; gives what is written."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("earthself").level

    def configure(form: str) -> io.StringIO:
        stream = io.StringIO()
        monkeypatch.setenv(logs.FORMAT, form)
        logs.configure(stream)
        return stream

    yield configure
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    logging.getLogger("earthself").setLevel(before[2])


def test_one_object_a_record(logged) -> None:
    stream = logged("json")
    log = logging.getLogger("earthself.signature.calls")
    log.info("%s was stored in %d s", "Großglockner\nline", 3)
    log.debug("not this one")
    logging.getLogger("library").info("nor this one")
    log.error("it failed", exc_info=ValueError("no such thing"))
    first, second = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (first["event"], first["level"], first["logger"]) == (
        "Großglockner\nline was stored in 3 s",
        "info",
        "earthself.signature.calls",
    )
    assert first["timestamp"].endswith("Z")
    assert "ValueError: no such thing" in second["exception"]
    assert second["level"] == "error"


@pytest.mark.parametrize("form", ["json", "text"])
def test_secrets_are_masked_also_in_tracebacks(logged, form) -> None:
    stream = logged(form)
    log = logging.getLogger("earthself")
    log.warning("refused %s", TOKEN)
    log.warning("header Authorization: Bearer abcdefghijk.lmn")
    log.error("database", exc_info=ValueError("postgresql://me:hunter2@host/db and https://x:pass@y/ and eyJhbGciOiJIUzI1NiJ9.eyJz.abc"))
    said = stream.getvalue()
    for secret in ("x" * 43, "abcdefghijk", "hunter2", ":pass@", "hbGci"):
        assert secret not in said
    for kept in ("ess_0123456789abcdef_***", "Bearer ***", "postgresql://me:***@host/db"):
        assert kept in said


def test_lines_for_people_are_the_default(logged, monkeypatch) -> None:
    stream = logged("")
    logging.getLogger("earthself").info("hello")
    assert stream.getvalue().endswith(" INFO earthself hello\n")


def test_another_form_is_refused(logged) -> None:
    with pytest.raises(BadInput, match="choose text or json"):
        logged("xml")
