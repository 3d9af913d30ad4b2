from __future__ import annotations

from scheduling.models.feeding import ArchiveFile, CoverageChange, CoverageCount, Feeder
from scheduling.models.job import Edit, FollowUp, FollowUpOn, Job, ScheduleStretch
from scheduling.models.run import Attempt, Cause, Reason, Run, State
from scheduling.models.scopes import Calendar, Circuit
from scheduling.models.source import Listing, Source
from scheduling.models.system import (
    DeadLetter,
    Event,
    Installation,
    Notification,
    Ping,
    PingSignal,
    Process,
    ProcessKind,
    Seat,
    Spoilt,
    Ticket,
)
from scheduling.models.target import Parked, Resource, Target
from scheduling.outcome import Outcome

__all__ = [
    "ArchiveFile",
    "Attempt",
    "Calendar",
    "Cause",
    "Circuit",
    "CoverageChange",
    "CoverageCount",
    "DeadLetter",
    "Edit",
    "Event",
    "Feeder",
    "FollowUp",
    "FollowUpOn",
    "Installation",
    "Job",
    "Listing",
    "Notification",
    "Outcome",
    "Parked",
    "Ping",
    "PingSignal",
    "Process",
    "ProcessKind",
    "Reason",
    "Resource",
    "Run",
    "ScheduleStretch",
    "Seat",
    "Source",
    "Spoilt",
    "State",
    "Target",
    "Ticket",
]
