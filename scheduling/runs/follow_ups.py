"""Follow-ups: the runs that the end of another run leads to, once each, in its transaction."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from django.db.models import Prefetch, prefetch_related_objects

from scheduling.conf import conf
from scheduling.models import Cause, FollowUp, Job, Reason, Run, State, Target
from scheduling.runs import coverage, joins, log, make, pool
from scheduling.runs.cursors import CURSOR_FIELDS, begin

logger = logging.getLogger(__name__)

BATCH = 1000  # rows per INSERT


def insert(run: Run, target: Target, job: Job, now: datetime) -> int:
    """Insert the runs that follow the end of `run`, whatever end; give how many are ready.

    1. For each plain rule that says so, runs of the follower, once per parent run.
    2. For each join behind the job that has nothing left to wait for, runs of the follower, once
       per root. A skipped run leads to nothing itself, but may have been the last that was open.
    """
    if run.state == State.SKIPPED and run.root_id is None:
        return 0
    rules = rules_of(job)
    if not rules:
        return 0
    waiting = joins.behind(job)
    # Before any target is made, for the same reason.
    root = joins.lock_root(run) if waiting else None
    ready = _save(_plain_rows(run, target, rules, now))
    if root is not None and root.target is not None:
        for join, ends in joins.complete(waiting, root, run):
            last = ends[-1]
            assert last.job_id is not None
            columns: dict[str, Any] = {
                "parent": last,
                "rule": join.members[last.job_id],
                "root_id": root.pk,
                "depth": max(end.depth for end in ends) + 1,
                "joined": True,
            }
            goals = _goals([join.follower], root.target, now)[join.follower.pk]
            ready += _save(_rows(join.follower, goals, conf.FAN_OUT, now, columns))
    return ready


def rules_of(job: Job) -> list[FollowUp]:
    """Where its ends lead; asked once for each instance, which lives as long as a transaction."""
    # In one order everywhere: two ends may make targets of the same followers.
    active = FollowUp.objects.filter(follower__retired_at=None).order_by("follower")
    prefetch_related_objects([job], Prefetch("follow_ups", active.select_related("follower")))
    return list(job.follow_ups.all())


def _plain_rows(run: Run, target: Target, rules: list[FollowUp], now: datetime) -> Iterator[Run]:
    rules = [rule for rule in rules if not rule.join and joins.obeys(run, rule.on)]
    goals = _goals([rule.follower for rule in rules], target, now)
    room = conf.FAN_OUT
    for rule in rules:
        columns = {
            "parent": run,
            "rule": rule,
            "root_id": run.root_id or run.pk,
            "depth": run.depth + 1,
        }
        mine = goals[rule.follower_id]
        yield from _rows(rule.follower, mine, room, now, columns)
        room = max(room - len(mine), 0)


def _save(rows: Iterator[Run]) -> int:
    """Insert in batches, made one after the other: PostgreSQL would end a transaction in which
    nothing is heard from us for some seconds.
    """
    ready = 0
    while batch := list(islice(rows, BATCH)):
        Run.objects.bulk_create(batch, ignore_conflicts=True)
        for row in batch:
            log.changed(row, row.state)
            ready += row.state == State.QUEUED
    return ready


def _goals(followers: Iterable[Job], parent: Target, now: datetime) -> dict[int, list[Target]]:
    """follower -> the targets that get a run: the one with the parent's key; else the plain one;
    else a new one with that key or, if the parent is plain, all of them.
    """
    followers = list(followers)
    if not followers:
        return {}
    active = Target.objects.filter(job__in=followers, retired_at=None)
    # The plain one first, so that the other takes its place.
    near = {goal.job_id: goal for goal in active.filter(key__in=(parent.key, "")).order_by("key")}
    return {
        follower.pk: [near[follower.pk]]
        if follower.pk in near
        else [_new_target(follower, parent, now)]
        if parent.key
        else _all_targets(follower)
        for follower in followers
    }


def _new_target(follower: Job, parent: Target, now: datetime) -> Target:
    """Make the target of a keyed follower for a key that it has not met.

    One that was retired is given as it is: its run is then skipped, and says so.
    """
    target, created = Target.objects.get_or_create(
        job=follower, key=parent.key, defaults={"resource": parent.resource}
    )
    if created:
        coverage.note(follower.pk, target.source_id, None, coverage.facts_of(target))
        begin(target, follower, after=now, since=now)
        pool.place(target, follower, now=now)
        target.save(update_fields=(*CURSOR_FIELDS, *pool.POOL_FIELDS))
    return target


def _all_targets(follower: Job) -> list[Target]:
    """Its active targets, at most one more than may get a run; else the plain one, retired."""
    targets = Target.objects.filter(job=follower).order_by("pk")
    active = targets.filter(retired_at=None)[: conf.FAN_OUT + 1]
    found = list(active) or list(targets.filter(key=""))
    if not found:
        logger.warning("Job %s is to follow, but has no targets yet", follower.name)
    return found


def _rows(
    follower: Job, goals: list[Target], room: int, now: datetime, columns: dict[str, Any]
) -> Iterator[Run]:
    """A run for each target; one skipped row stands for all for which there is no room."""
    common: dict[str, Any] = {"cause": Cause.FOLLOW_UP, "now": now, **columns}
    why = f"one run leads to {conf.FAN_OUT} follow-ups at most (JOBS_FAN_OUT)"
    if columns["depth"] > conf.FOLLOW_UP_DEPTH:
        room, why = 0, f"deeper than {conf.FOLLOW_UP_DEPTH} follow-ups (JOBS_FOLLOW_UP_DEPTH)"
    for goal in goals[:room]:
        yield make.queued(goal, follower, scheduled_at=now, **common)
    if len(goals) <= room:
        return
    if len(goals) > 1:
        left = Target.objects.filter(job=follower, retired_at=None).count() - room
        why = f"{left} targets: {why}"
    yield make.skipped(goals[room], follower, first=now, reason=Reason.CAPPED, detail=why, **common)
