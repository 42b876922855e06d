"""Alerts carried to people by an Airflow notifier that the settings name: e-mail, Slack, PagerDuty, whatever a provider package brings."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from earthself.triggers.errors import NoticeNotSent

if TYPE_CHECKING:
    from airflow.sdk.bases.notifier import BaseNotifier


@dataclass(frozen=True)
class Notify:
    """Who is told of alerts, and how."""

    notifier: str
    """Dotted name of a subclass of Airflow's `BaseNotifier`."""
    arguments: Mapping[str, Any]
    """Its arguments; where it takes templates, `{{ text }}` is filled in, and `{{ watch }}`: the area, or the workflow of a late run."""


def send(to: Notify, text: str, watch: str) -> None:
    """Tell of an alert; blocks as long as the notifier does. Raises `NoticeNotSent` for whatever goes wrong there."""
    try:
        _notifier(to.notifier)(**to.arguments)({"text": text, "watch": watch})
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:300]
        raise NoticeNotSent(f"the notifier {to.notifier} did not take an alert ({reason}); check `notify` in the settings") from error


def _notifier(name: str) -> type[BaseNotifier]:
    """Import a notifier; a Variable names it, so it may not be just any function of this process."""
    from airflow.sdk.bases.notifier import BaseNotifier

    module, _, last = name.rpartition(".")
    kind = getattr(importlib.import_module(module), last)
    if not (isinstance(kind, type) and issubclass(kind, BaseNotifier)):
        raise TypeError("it is no Airflow notifier")
    return kind
