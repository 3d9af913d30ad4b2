"""What an end leads to: statistics, notifications, follow-up runs."""

from __future__ import annotations

from datetime import datetime, timedelta

from scheduling.conf import conf
from scheduling.models import (
    Cause,
    FollowUp,
    FollowUpOn,
    Job,
    Notification,
    Reason,
    Run,
    State,
    Target,
)
from scheduling.models.system import Event
from scheduling.runs import late_fires, log, make, pings, scopes
from scheduling.runs.cursors import CURSOR_FIELDS, begin

TARGET_FIELDS = (
    "last_ended_at",
    "last_succeeded_at",
    "last_skipped_at",
    "last_state",
    "last_outcome",
    "last_alerted_at",
    "failing_since",
    "failures_in_a_row",
)
# Without `notify_still_failing`, a job that goes on failing says so once a day.
DIGEST = timedelta(days=1)
BY_WILL = {Reason.CANCELLED, Reason.TERMINATED}


def record(run: Run, target: Target, job: Job, *, now: datetime) -> int:
    """Write what follows from the end of `run`; give how many runs became ready.

    The target's columns (TARGET_FIELDS) are set on the instance, for the caller to save.
    """
    if run.state == State.SKIPPED:
        target.last_skipped_at = now
        late_fires.given_up(run, target, job, now=now)
        pings.of_nothing(run)
        return 0
    target.last_ended_at = now
    if run.state == State.FAILED and run.reason in BY_WILL:
        pings.of_nothing(run)
        return 0
    pings.of_end(run, job, now=now)
    event = _event(run, target, job, now)
    _count(run, target, now)
    events = [] if event is None else [event]
    if event in (Event.FAILING, Event.STILL_FAILING):
        target.last_alerted_at = now
    # Old days that are run again say nothing about today.
    counts = run.state == State.FAILED and run.cause != Cause.BACKFILL
    if counts and _pause_after_failures(target, job, now):
        events.append(Event.PAUSED)
    Notification.objects.bulk_create(
        [
            Notification(run=run, name=job.name, event=each, created_at=now, deliver_at=now)
            for each in events
        ],
        ignore_conflicts=True,
    )
    return _follow_up(run, target, job, now)


def _pause_after_failures(target: Target, job: Job, now: datetime) -> bool:
    """Pause what has failed as often in a row as its job allows: a plain job, or one target."""
    if job.pause_after is None or target.failures_in_a_row < job.pause_after:
        return False
    reason = f"{target.failures_in_a_row} failures in a row"
    return scopes.hold(target if target.key else job, by="Beatkeeper", reason=reason, now=now)


def _event(run: Run, target: Target, job: Job, now: datetime) -> Event | None:
    """What to tell of an end, seen from the target's state before it."""
    if run.state == State.SUCCEEDED:
        if target.failing_since is not None:
            return Event.FIXED
        # As cron does: mail only if there is something to read.
        return Event.SUCCEEDED if job.notify_on_success and run.output.strip() else None
    if target.failing_since is None:
        return Event.FAILING
    told = target.last_alerted_at
    if job.notify_still_failing or told is None or now - told >= DIGEST:
        return Event.STILL_FAILING
    return None


def _count(run: Run, target: Target, now: datetime) -> None:
    target.last_state, target.last_outcome = run.state, run.outcome
    if run.state == State.SUCCEEDED:
        target.last_succeeded_at, target.failing_since, target.failures_in_a_row = now, None, 0
    else:
        target.failing_since = target.failing_since or now
        target.failures_in_a_row += 1


def _follow_up(run: Run, target: Target, job: Job, now: datetime) -> int:
    """Insert a run for each follow-up rule, once per parent run; give how many are ready."""
    ended = FollowUpOn.SUCCESS if run.state == State.SUCCEEDED else FollowUpOn.FAILURE
    rules = (
        FollowUp.objects.filter(job=job, on__in=(ended, FollowUpOn.ANY))
        .filter(follower__retired_at=None)
        .select_related("follower")
        .order_by("pk")
    )
    if not rules:
        return 0
    known = _targets_of([rule.follower_id for rule in rules], target.key)
    rows = [
        _follower_run(
            run,
            rule,
            known.get(rule.follower_id) or _new_target(rule.follower, target, now),
            now,
        )
        for rule in rules
    ]
    Run.objects.bulk_create(rows, ignore_conflicts=True)
    for row in rows:
        log.changed(row, row.state)
    return sum(row.state == State.QUEUED for row in rows)


def _targets_of(job_ids: list[int], key: str) -> dict[int, Target]:
    """job -> its target for `key`, or its plain one where it does not know the key."""
    found = Target.objects.filter(job__in=job_ids, key__in=(key, ""), retired_at=None)
    # The plain one first, so that the other takes its place.
    return {goal.job_id: goal for goal in found.order_by("key").select_related("resource")}


def _new_target(follower: Job, parent: Target, now: datetime) -> Target:
    """Make the target of a keyed follower for a key that it has not met.

    One that was retired is given as it is: its run is then skipped, and says so.
    """
    target, created = Target.objects.get_or_create(
        job=follower, key=parent.key, defaults={"resource": parent.resource}
    )
    if created:
        begin(target, follower, after=now, since=now)
        target.save(update_fields=CURSOR_FIELDS)
    return target


def _follower_run(run: Run, rule: FollowUp, goal: Target, now: datetime) -> Run:
    follower = rule.follower
    goal.job = follower
    depth = run.depth + 1
    if depth > conf.FOLLOW_UP_DEPTH:
        return make.skipped(
            goal,
            follower,
            first=now,
            reason=Reason.CAPPED,
            now=now,
            cause=Cause.FOLLOW_UP,
            detail=f"deeper than {conf.FOLLOW_UP_DEPTH} follow-ups",
            parent=run,
            rule=rule,
            depth=depth,
        )
    return make.queued(
        goal,
        follower,
        scheduled_at=now,
        cause=Cause.FOLLOW_UP,
        now=now,
        parent=run,
        rule=rule,
        depth=depth,
    )
