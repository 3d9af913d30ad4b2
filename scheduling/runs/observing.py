"""What a target's columns say of it, and what one more result makes of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from scheduling.cadence import Ended, Observation, Standing, fold, noise_of
from scheduling.calendars import Except
from scheduling.conf import conf
from scheduling.errors import InvalidSchedule
from scheduling.models import Cause, Feeder, Job, Outcome, Run, State, Target
from scheduling.runs.cursors import schedule_of
from scheduling.runs.pool import ended_of
from scheduling.schedules import Adaptive

if TYPE_CHECKING:
    from scheduling.runs.result import Result

# What a result changes of a target; besides, its place in the pool.
STANDING_FIELDS = (
    "observed_at",
    "found_at",
    "ok_since",
    "staleness",
    "last_state",
    "last_outcome",
    "fingerprint",
    "streak",
    "misses",
    "level",
    "position",
    "interval",
)
CHANCE_FIELDS = ("streak", "misses", "failures_in_a_row")
BY = "Beatkeeper"  # who pauses a target that is not found


def standing_of(target: Target) -> Standing:
    return Standing(
        observed_at=target.observed_at,
        found_at=target.found_at,
        ok_since=target.ok_since,
        last_ended=ended_of(target.last_state, target.last_outcome),
        last_outcome=target.last_outcome,
        fingerprint=target.fingerprint,
        streak=target.streak,
        misses=target.misses,
        level=target.level,
        position=target.position,
        interval=target.interval,
    )


def take_in(target: Target, job: Job, observation: Observation, *, clock: int) -> bool:
    """Fold a result into the columns of a locked target, on the instance; False: nothing is new."""
    before = standing_of(target)
    after = fold(
        before,
        observation,
        clock=clock,
        noise=noise_of(target.name, observation.at),
        adaptive=adaptive_of(target, job),
    )
    if after is before:
        return False
    _put(target, after)
    return True


def _put(target: Target, standing: Standing) -> None:
    target.observed_at, target.found_at = standing.observed_at, standing.found_at
    target.ok_since, target.staleness = standing.ok_since, staleness_of(target)
    if standing.last_ended is not None:
        has_failed = standing.last_ended == Ended.FAILED
        target.last_state = State.FAILED if has_failed else State.SUCCEEDED
    target.last_outcome, target.fingerprint = standing.last_outcome, standing.fingerprint
    target.streak, target.misses = standing.streak, standing.misses
    target.level, target.position = standing.level, standing.position
    target.interval = standing.interval


def staleness_of(target: Target) -> timedelta | None:
    """For how long it has been out of date, as far as that is known; None: it is not."""
    if target.hint_at is None or target.found_at is None or target.hint_at <= target.found_at:
        return None
    return target.hint_at - target.found_at


def adaptive_of(target: Target, job: Job) -> Adaptive | None:
    try:
        schedule = schedule_of(target, job)
    except InvalidSchedule:
        return None
    inner = schedule.inner if isinstance(schedule, Except) else schedule
    return inner if isinstance(inner, Adaptive) else None


def clock_of(job: Job) -> int:
    """The virtual clock, from which a target without a place on it starts."""
    if job.feed is None:
        return 0
    return Feeder.objects.filter(job=job).values_list("position", flat=True).first() or 0


# --- runs of ours ---------------------------------------------------------------------------------


def outcome_of(run: Run, target: Target, result: Result) -> str:
    """What a run has found: as it says, or by its fingerprint."""
    if result.outcome is not None or result.state != State.SUCCEEDED:
        return result.outcome or ""
    if not result.fingerprint or run.cause == Cause.BACKFILL:
        return ""
    same = result.fingerprint == target.fingerprint
    return Outcome.UNCHANGED if same else Outcome.CHANGED


def of_run(run: Run, target: Target, job: Job, *, fingerprint: str, now: datetime) -> None:
    """Fold the end of a run into its target's columns, on the instance.

    Each end comes once, so it counts although another came at the same moment, or, by a clock that
    is a little ahead, after it; and although it was picked by such a clock.
    """
    at = now
    known = max(filter(None, (target.observed_at, target.last_scheduled_at)), default=None)
    if known is not None and now <= known <= now + conf.CLOCK_SKEW:
        at = known + known.resolution
    ended = ended_of(run.state, run.outcome)
    assert ended is not None
    if ended == Ended.FOUND and fingerprint:
        observation = Observation(at=at, ended=ended, fingerprint=fingerprint)
    elif ended == Ended.FOUND and run.outcome:
        observation = Observation(at=at, ended=ended, outcome=Outcome(run.outcome))
    else:
        observation = Observation(at=at, ended=ended)
    clock = 0 if target.position is not None else clock_of(job)
    take_in(target, job, observation, clock=clock)


# --- chances --------------------------------------------------------------------------------------


def chances_of(job: Job) -> int:
    """How many results in a row may miss a target before it is paused; 0: any number."""
    if job.pause_after is not None:
        return job.pause_after
    return 0 if job.feed is None else conf.PAUSE_AFTER


def has_run_out(target: Target, job: Job) -> bool:
    chances = chances_of(job)
    return 0 < chances <= target.misses


def why_run_out(target: Target) -> str:
    """Say what came of the results that have not found it."""
    number = target.misses
    if target.streak < number:
        return f"{number} results in a row did not find it, some failed and some were 'missing'"
    if target.last_state == State.FAILED:
        return f"{number} failures in a row"
    return f"{number} times 'missing' in a row"


def new_chances(target: Target) -> None:
    """Forget, on the instance, that it was not found; the caller saves CHANCE_FIELDS."""
    for name in CHANCE_FIELDS:
        setattr(target, name, 0)
