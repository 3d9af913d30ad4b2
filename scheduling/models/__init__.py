from __future__ import annotations

from scheduling.models.job import FollowUp, FollowUpOn, Job, ScheduleStretch
from scheduling.models.run import Cause, Reason, Run, State
from scheduling.models.system import Installation, Notification, Process, ProcessKind, Seat
from scheduling.models.target import Parked, Resource, Target
from scheduling.outcome import Outcome

__all__ = [
    "Cause",
    "FollowUp",
    "FollowUpOn",
    "Installation",
    "Job",
    "Notification",
    "Outcome",
    "Parked",
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
