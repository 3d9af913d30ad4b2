from __future__ import annotations

from scheduling.models.job import FollowUp, FollowUpOn, Job, ScheduleStretch
from scheduling.models.run import Cause, Reason, Run, State
from scheduling.models.scopes import Calendar, Circuit
from scheduling.models.system import (
    Event,
    Installation,
    Notification,
    Ping,
    PingSignal,
    Process,
    ProcessKind,
    Seat,
)
from scheduling.models.target import Parked, Resource, Target
from scheduling.outcome import Outcome

__all__ = [
    "Calendar",
    "Cause",
    "Circuit",
    "Event",
    "FollowUp",
    "FollowUpOn",
    "Installation",
    "Job",
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
    "State",
    "Target",
]
