"""What people type is data: bounded, free of characters that hide or control, and never a place for a password."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import urlsplit

from earthself.helpdesk.errors import BadEntry

_EMAIL = re.compile(r"[^@\s<>\"',;:\\]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", re.ASCII)
_SCP = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[A-Za-z0-9._/~-]+", re.ASCII)
_SCHEMES = ("https", "ssh")
_LONGEST_ADDRESS = 500
_LONGEST_EMAIL = 254


def line(what: str, value: object, most: int) -> str:
    """Give a text of one line, its characters put together (NFC); raises `BadEntry`."""
    text = _text(what, value, most)
    if not text:
        raise BadEntry(f"{what} is empty; give 1 to {most} characters")
    if hidden := next((each for each in text if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp")), None):
        raise BadEntry(f"{what} holds the character U+{ord(hidden):04X}, which nobody sees; leave it out")
    return text


def lines(what: str, value: object, most: int) -> str:
    """Give a text of any number of lines, which may be empty; raises `BadEntry`."""
    text = _text(what, value, most).replace("\r\n", "\n").replace("\r", "\n")
    if hidden := next((each for each in text if unicodedata.category(each) == "Cc" and each not in "\n\t"), None):
        raise BadEntry(f"{what} holds the control character U+{ord(hidden):04X}; leave it out")
    return text


def email(what: str, value: object) -> str:
    """Give an e-mail address; raises `BadEntry`."""
    text = line(what, value, _LONGEST_EMAIL)
    if not _EMAIL.fullmatch(text):
        raise BadEntry(f"{what}: {text!r} is no e-mail address; give one such as name@example.org")
    return text


def repository(what: str, value: object) -> str:
    """Give the address of a git repository, or nothing; raises `BadEntry` for what is none, and for one with a password in it."""
    if value == "":
        return ""
    text = line(what, value, _LONGEST_ADDRESS)
    if _SCP.fullmatch(text):
        return text
    try:
        parts = urlsplit(text)
        host, password, user = parts.hostname, parts.password, parts.username
    except ValueError:
        host = password = user = None
        parts = urlsplit("")
    if password is not None or (user is not None and parts.scheme != "ssh"):
        raise BadEntry(f"{what} holds a user or a password, which everyone would see; leave it out, a connection of Airflow keeps it")
    if parts.scheme not in _SCHEMES or not host or not parts.path.strip("/") or parts.query or parts.fragment or " " in text:
        raise BadEntry(f"{what}: {text!r} is no address of a git repository; give https://…, ssh://… or git@host:path")
    return text


def _text(what: str, value: object, most: int) -> str:
    if not isinstance(value, str):
        raise BadEntry(f"{what} is {type(value).__name__}, not a text")
    text = unicodedata.normalize("NFC", value).strip()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadEntry(f"{what} holds half of a character (a surrogate); leave it out") from None
    if len(text) > most:
        raise BadEntry(f"{what} has {len(text)} characters; give at most {most}")
    return text
