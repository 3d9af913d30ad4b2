"""Everything Beatkeeper raises on purpose. A class's docstring is its default message."""

from __future__ import annotations

import inspect


class SchedulingError(Exception):
    """Scheduling failed."""

    def __init__(self, message: str | None = None, **facts: object) -> None:
        """Facts become attributes, so that callers need not read the message."""
        super().__init__(message or inspect.getdoc(type(self)))
        for name, value in facts.items():
            setattr(self, name, value)


class InvalidSchedule(SchedulingError, ValueError):
    """The schedule cannot be read."""


class InvalidSpan(InvalidSchedule):
    """The span cannot be read; write it with units, such as 90s, 15m or 1h30m."""


class NaiveTime(SchedulingError, ValueError):
    """A time without a time zone was given; pass an aware datetime."""


class InvalidCalendar(InvalidSchedule):
    """The days of the calendar cannot be read."""


class InvalidBackfill(SchedulingError, ValueError):
    """The range cannot be backfilled."""


class InvalidDeclaration(SchedulingError, ValueError):
    """The declaration of a job contradicts itself."""


class UnknownJob(SchedulingError, LookupError):
    """No such job."""


class UnknownTarget(SchedulingError, LookupError):
    """No such target."""


class UnknownRun(SchedulingError, LookupError):
    """No such run."""


class InvalidRequest(SchedulingError, ValueError):
    """What is asked for cannot be done as it is said."""


class UnknownStrategy(SchedulingError, LookupError):
    """No such strategy."""


class NotFed(SchedulingError, ValueError):
    """The job is not fed; give it a feed."""


class UnknownSource(SchedulingError, LookupError):
    """No such source."""


class StaleSource(SchedulingError, RuntimeError):
    """The source has changed since it was read; read it again."""


class TooManyVanished(SchedulingError):
    """A full listing has left out more than can be believed."""


class UnreadableFile(SchedulingError, ValueError):
    """A file of a listing cannot be read."""


class UnreadablePage(SchedulingError, ValueError):
    """A page of a listing cannot be read."""


class NotInARun(SchedulingError, RuntimeError):
    """current_run() was called outside of a run."""


class UnknownLock(SchedulingError, LookupError):
    """Nobody holds such a lock."""


class LockBusy(SchedulingError, TimeoutError):
    """The lock was not to be had in time."""


class RunIsOver(SchedulingError, RuntimeError):
    """The attempt that asks is no longer the accepted one of its run."""


class LockInTransaction(SchedulingError, RuntimeError):
    """A lock cannot be taken inside of a transaction."""


class JobRetired(SchedulingError, ValueError):
    """The job is retired."""


class CheckpointError(SchedulingError):
    """The checkpoint cannot be used."""


class CheckpointAway(CheckpointError):
    """The place of the checkpoint cannot be reached."""


class UnreadableCheckpoint(CheckpointError, ValueError):
    """The checkpoint cannot be read."""


class ForeignCheckpoint(CheckpointError):
    """The checkpoint belongs to another installation."""


class DatabaseIsOlder(CheckpointError):
    """The database is older than the checkpoint."""


class ArchiveError(SchedulingError):
    """The archive cannot be used."""


class ArchiveDamaged(ArchiveError):
    """A file of the archive is not what was written."""
