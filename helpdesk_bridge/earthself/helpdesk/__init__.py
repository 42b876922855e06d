"""Services, what they need, and the environments that are asked for them; every change leaves a row that is never changed itself."""

from __future__ import annotations

from earthself.helpdesk.errors import BadEntry, HelpdeskError, NotNow, RecordsBroken, Unknown
from earthself.helpdesk.model import Actor, Change, Comment, Entry, Need, Request, Service, State, Wish
from earthself.helpdesk.records import Records

__all__ = [
    "Actor",
    "BadEntry",
    "Change",
    "Comment",
    "Entry",
    "HelpdeskError",
    "Need",
    "NotNow",
    "Records",
    "RecordsBroken",
    "Request",
    "Service",
    "State",
    "Unknown",
    "Wish",
]
