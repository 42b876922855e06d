"""Environments on demand: planned, written down, made, looked at and taken away, by any engine."""

from __future__ import annotations

from earthself.provision.builder import Builder, Patience
from earthself.provision.engine import Provisioner
from earthself.provision.errors import BadOrder, EngineBusy, EngineFailed, JournalBroken, NoQuota, ProvisionError, TakenAway
from earthself.provision.journal import Journal
from earthself.provision.model import Level, Observed, Order, Plan, Quota, Resource, Stage, Status, Written

__all__ = [
    "BadOrder",
    "Builder",
    "EngineBusy",
    "EngineFailed",
    "Journal",
    "JournalBroken",
    "Level",
    "NoQuota",
    "Observed",
    "Order",
    "Patience",
    "Plan",
    "ProvisionError",
    "Provisioner",
    "Quota",
    "Resource",
    "Stage",
    "Status",
    "TakenAway",
    "Written",
]
