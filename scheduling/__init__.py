"""What should run, and when. Importing this package needs no Django settings."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from scheduling.feeds import Cooldowns, Express, Feed, Polite
from scheduling.outcome import Found, Outcome
from scheduling.policies import CatchUp, Overlap
from scheduling.schedules import (
    Adaptive,
    Always,
    Cron,
    Every,
    Manual,
    Once,
    Schedule,
    Times,
    Union,
    fires_between,
    parse,
)
from scheduling.zones import ClockChange

if TYPE_CHECKING:
    from scheduling.context import ParentRun, current_run
    from scheduling.locking import lock
    from scheduling.registry import job
    from scheduling.sources import Named, source

__all__ = [
    "Adaptive",
    "Always",
    "CatchUp",
    "ClockChange",
    "Cooldowns",
    "Cron",
    "Every",
    "Express",
    "Feed",
    "Found",
    "Manual",
    "Named",
    "Once",
    "Outcome",
    "Overlap",
    "ParentRun",
    "Polite",
    "Schedule",
    "Times",
    "Union",
    "current_run",
    "fires_between",
    "job",
    "lock",
    "parse",
    "source",
]

# Loaded when first asked for: they need Celery, a process-wide state or Django.
_LAZY = {
    "job": "scheduling.registry",
    "Named": "scheduling.sources",
    "source": "scheduling.sources",
    "ParentRun": "scheduling.context",
    "current_run": "scheduling.context",
    "lock": "scheduling.locking",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
