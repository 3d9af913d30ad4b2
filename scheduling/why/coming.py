"""What comes next, or what stands in its way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from django.db.models import Count, Min, Q

from scheduling.conf import conf
from scheduling.errors import InvalidSchedule
from scheduling.explanations import beats, stamp
from scheduling.ledger import follows_of
from scheduling.models import Feeder, Job, Parked, Process, ProcessKind, Run, Target
from scheduling.models.base import Pausable
from scheduling.runs.circuits import held_by
from scheduling.runs.circuits import told as opened
from scheduling.runs.cursors import compiled, schedule_of, within_life
from scheduling.runs.observing import adaptive_of
from scheduling.runs.rounds import in_words
from scheduling.runs.scopes import pause_of
from scheduling.schedules import Schedule
from scheduling.spans import span_in_words
from scheduling.why.findings import Finding
from scheduling.why.fire_times import TICK, day_off

FIRES_TOLD = 3
MOST_DAYS_OFF = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The targets of a job that are in use, taken together."""

    number: int
    next_fire_at: datetime | None
    paused: int


def targets_of(job: Job) -> Targets:
    told = Target.objects.filter(job=job, retired_at=None).aggregate(
        number=Count("pk"),
        next_fire_at=Min("next_fire_at"),
        paused=Count("pk", filter=Q(parked=Parked.PAUSED)),
    )
    return Targets(**told)


def obstacle(job: Job, target: Target | None, now: datetime) -> str:
    """What keeps it from firing at this moment; "" if nothing does."""
    if job.retired_at is not None:
        return f"The job was retired at {stamp(job.retired_at)}: it is no longer declared."
    if target is not None and target.retired_at is not None:
        return f"The target was retired at {stamp(target.retired_at)}."
    held = pause_of(job, target, now)
    if held is not None:
        return paused(*held)
    circuit = held_by(job)
    if circuit is not None:
        return f"{opened(circuit)} at {stamp(circuit.opened_at)}."
    if job.schedule_error:
        return f"Its schedule {job.schedule!r} cannot be read: {job.schedule_error}"
    return ""


def paused(name: str, scope: Pausable) -> str:
    by = f" by {scope.paused_by}" if scope.paused_by else ""
    until = f" until {stamp(scope.paused_until)}" if scope.paused_until else ""
    reason = f": {scope.pause_reason.rstrip('.')}" if scope.pause_reason else ""
    return f"{name} has been paused{by} since {stamp(scope.paused_at)}{until}{reason}."


def beats_now(now: datetime) -> str:
    seen = Process.objects.filter(kind=ProcessKind.BEAT).order_by("-seen_at")
    return beats(seen.values_list("seen_at", flat=True).first(), now)


def of_job(job: Job, targets: Targets, now: datetime) -> Finding:
    """What comes next of a job with several targets, or with none."""
    if sentence := obstacle(job, None, now):
        return Finding(explanation=sentence, is_problem=True)
    fire = targets.next_fire_at
    if fire is None:
        if not targets.number:
            return Finding(explanation="The job has no target that could fire.")
        if job.is_picked:
            return Finding(explanation=_of_rounds(job, targets))
        held = f": {targets.paused:,} are paused" if targets.paused else ""
        return Finding(explanation=f"None of its {targets.number:,} targets fires next{held}.")
    first = Target.objects.filter(job=job, retired_at=None, next_fire_at=fire).first()
    key = f", of the target {first.key!r}" if first is not None else ""
    if fire < now - conf.GRACE:
        return Finding(
            explanation=f"The fire of {stamp(fire)}{key}, is due and not claimed yet: "
            f"{beats_now(now)}.",
            is_problem=True,
        )
    return Finding(
        explanation=f"The next fire of its {targets.number:,} targets is that of {stamp(fire)}"
        f"{key}.",
        about=fire,
    )


def _of_rounds(job: Job, targets: Targets) -> str:
    picked = f"Strategies pick its {targets.number:,} targets when slots are free"
    feeder = Feeder.objects.filter(job=job).first()
    if feeder is None or feeder.last_round_at is None:
        return f"{picked}; no beat has fed it yet."
    return f"{picked}; the round of {stamp(feeder.last_round_at)}: {in_words(feeder.last_round)}."


def of_target(job: Job, target: Target, now: datetime) -> Finding | None:
    """What comes next of a target; None if nothing can be told."""
    sentence = obstacle(job, target, now)
    try:
        schedule = schedule_of(target, job)
    except InvalidSchedule as error:
        told = sentence or f"Its schedule cannot be read: {error}"
        return Finding(explanation=told, is_problem=True)
    if sentence:
        told = f"{sentence}{_after_pause(job, target, schedule, now)}"
        return Finding(explanation=told, is_problem=True)
    fire = target.next_fire_at
    if fire is None:
        told = _why_none(job, target, schedule, now)
        return Finding(explanation=told) if told else None
    if fire < now - conf.GRACE:
        late = f"The fire of {stamp(fire)} is due and not claimed yet: {beats_now(now)}."
        return Finding(explanation=late, is_problem=True)
    left_out = _days_off(job, target, schedule, max(now, target.last_scheduled_at or now), fire)
    told = f"The next fire is that of {stamp(fire)}{_then(job, target, schedule, fire)}.{left_out}"
    return Finding(explanation=told, about=fire)


def upcoming(job: Job, target: Target, schedule: Schedule, fire: datetime) -> list[datetime]:
    """`fire` and what follows it, as far as the job's end and its number of runs allow."""
    fires: list[datetime] = []
    following: datetime | None = fire
    while following is not None and len(fires) < min(FIRES_TOLD, job.runs_left or FIRES_TOLD):
        fires.append(following)
        following = within_life(job, schedule.next(following, name=target.name))
    return fires


def _then(job: Job, target: Target, schedule: Schedule, fire: datetime) -> str:
    adaptive = adaptive_of(target, job)
    if adaptive is not None:
        return f"; it waits {span_in_words(adaptive.wait)} by now, adapting to what its runs find"
    others = upcoming(job, target, schedule, fire)[1:]
    if not others:
        is_last = schedule.is_anchored
        return ", and it is the last" if is_last else ""
    return f", then {' and '.join(map(stamp, others))}"


def _days_off(job: Job, target: Target, schedule: Schedule, since: datetime, fire: datetime) -> str:
    """Which fire would come before, if it did not lie on a day off; "" if none would."""
    if job.calendar is None:
        return ""
    plain = compiled(target.schedule_text, job.clock_change)
    fires = plain.between(since, fire - TICK, name=target.name)
    skipped = [
        (each, day)
        for each in islice(fires, MOST_DAYS_OFF)
        if (day := day_off(schedule, each, target.name)) is not None
    ]
    if not skipped:
        return ""
    each, day = skipped[0]
    more = f", and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return (
        f" That of {stamp(each)} is left out{more}: {day} is a day off of the calendar "
        f"{job.calendar.name!r}."
    )


def _after_pause(job: Job, target: Target, schedule: Schedule, now: datetime) -> str:
    """The first fire when the pause ends by itself; "" if it does not, or nothing comes then."""
    held = pause_of(job, target, now)
    end = held[1].paused_until if held is not None else None
    if job.retired_at is not None or target.retired_at is not None or end is None:
        return ""
    fire = within_life(job, schedule.next(end - TICK, name=target.name))
    return "" if fire is None else f" The first fire after that is that of {stamp(fire)}."


def _why_none(job: Job, target: Target, schedule: Schedule, now: datetime) -> str:
    if target.parked == Parked.OPEN:
        ahead = Run.objects.open().filter(target=target).order_by("created_at").only("pk").first()
        which = f", run {ahead.pk}" if ahead is not None else ""
        return f"The next fire is counted from the end of the run that is open{which}."
    if target.parked == Parked.CIRCUIT:
        return "Its circuit has closed: a beat arms it within seconds."
    if target.parked == Parked.PAUSED:
        return "Its pause has ended: a beat arms it within seconds."
    if job.runs_left == 0:
        return "No fire comes any more: it has had the number of runs that it was given."
    if job.is_picked and not schedule.is_anchored:
        return _when_picked(target)
    following = schedule.next(now, name=target.name)
    if following is not None:
        ended = job.ends_at is not None and following > job.ends_at
        return f"No fire comes any more: it ended at {stamp(job.ends_at)}." if ended else ""
    if schedule.is_anchored:
        return f"No fire comes any more: the schedule {str(schedule)!r} has come to its end."
    if schedule.after_end(now) is not None:
        return ""
    follows = follows_of([job.pk]).get(job.pk)
    if follows:
        return f"It has no fire times of its own: it runs {' or '.join(follows)}."
    return "It has no fire times of its own: it runs when somebody asks for it."


def _when_picked(target: Target) -> str:
    if target.eligible_at is not None:
        until = stamp(target.eligible_at)
        return f"It is left alone, as it cools down or is in flight, until {until} at the latest."
    if target.eligible_since is not None:
        since = stamp(target.eligible_since)
        return f"It has no fire times: strategies may pick it when slots are free, since {since}."
    return "It has no fire times: strategies pick it, and a beat puts it into their pool soon."
