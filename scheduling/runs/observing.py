"""What a target's columns say of it, and what one more result makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from scheduling.cadence import Ended, Observation, Standing, fold, noise_of, staleness_of
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
    "not_before",
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
        not_before=target.not_before,
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
    target.ok_since = standing.ok_since
    target.staleness = staleness_of(target.hint_at, standing.found_at)
    if standing.last_ended is not None:
        has_failed = standing.last_ended == Ended.FAILED
        target.last_state = State.FAILED if has_failed else State.SUCCEEDED
    target.last_outcome, target.fingerprint = standing.last_outcome, standing.fingerprint
    target.streak, target.misses = standing.streak, standing.misses
    target.level, target.position = standing.level, standing.position
    target.interval, target.not_before = standing.interval, standing.not_before


def adaptive_of(target: Target, job: Job) -> Adaptive | None:
    try:
        schedule = schedule_of(target, job)
    except InvalidSchedule:
        return None
    inner = schedule.inner if isinstance(schedule, Except) else schedule
    return inner if isinstance(inner, Adaptive) else None


def clock_of(job: Job) -> int:
    """The virtual clock, from which a target without a place on it starts."""
    return clocks_of([job]).get(job.pk, 0)


def clocks_of(jobs: Iterable[Job]) -> dict[int, int]:
    """job -> its virtual clock, of those that are fed and have one."""
    fed = [job.pk for job in jobs if job.feed is not None]
    if not fed:
        return {}
    return dict(Feeder.objects.filter(job__in=fed).values_list("job_id", "position"))


# --- runs of ours ---------------------------------------------------------------------------------


def outcome_of(run: Run, target: Target, result: Result) -> str:
    """What a run has found: as it says, or by its fingerprint."""
    if result.outcome is not None or result.state != State.SUCCEEDED:
        return result.outcome or ""
    if not result.fingerprint or run.cause == Cause.BACKFILL:
        return ""
    same = result.fingerprint == target.fingerprint
    return Outcome.UNCHANGED if same else Outcome.CHANGED


def of_run(
    run: Run,
    target: Target,
    job: Job,
    *,
    given: Result | None,
    now: datetime,
    clock: int | None = None,
) -> None:
    """Fold the end of a run, which has `given` that, into its target's columns, on the instance.

    Each end comes once, so it counts although another came at the same moment, or, by a clock that
    is a little ahead, after it; and although it was picked by such a clock. `clock`: the virtual
    one of its job, if the caller knows it.
    """
    at = after_pick(target, now)
    if target.observed_at is not None and at <= target.observed_at <= now + conf.CLOCK_SKEW:
        at = target.observed_at + target.observed_at.resolution
    ended = ended_of(run.state, run.outcome)
    assert ended is not None
    fingerprint, outcome = "", None
    if ended == Ended.FOUND and given is not None and given.fingerprint:
        fingerprint = given.fingerprint
    elif ended == Ended.FOUND and run.outcome:
        outcome = Outcome(run.outcome)
    observation = Observation(
        at=at,
        ended=ended,
        outcome=outcome,
        fingerprint=fingerprint,
        retry_after=None if given is None else given.next_after,
    )
    if target.position is not None:
        clock = 0
    elif clock is None:
        clock = clock_of(job)
    take_in(target, job, observation, clock=clock)


def after_pick(target: Target, now: datetime) -> datetime:
    """Now, or, if the target was picked by a clock that is a little ahead, a moment after that."""
    picked = target.last_scheduled_at
    if picked is None or not now <= picked <= now + conf.CLOCK_SKEW:
        return now
    return picked + picked.resolution


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
