"""Targets: created in bulk, looked up, searched, paused and retired."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from django.db.models import Exists, OuterRef, Q

from scheduling import clock, runs
from scheduling.backend.filters import OneOrMany, among, between, words
from scheduling.backend.jobs import ACTIVE, BY, PAUSED, RETIRED, STATES, jobs_named
from scheduling.backend.pages import ROWS, Page, page
from scheduling.models import Outcome, Run, State, Target
from scheduling.models.target import TargetQuerySet
from scheduling.runs import adding
from scheduling.runs.adding import NewTarget

StateOf = Literal["active", "paused", "retired"]
FAILED, NEVER = "failed", "never"
OUTCOMES = (*(each.value for each in Outcome), FAILED, NEVER)
ORDERS = {
    "job": "job__name",
    **{name: name for name in ("key", "id", "created_at", "next_fire_at", "last_scheduled_at")},
    **{name: name for name in ("last_started_at", "last_ended_at", "observed_at", "found_at")},
    **{name: name for name in ("hint_at", "position", "level")},
}


def create_targets(wanted: Iterable[NewTarget]) -> list[Target]:
    """Make targets, work that comes up again and again; give one for each, in that order.

    What a job has already is left untouched, and given; what is wanted twice is made once. A target
    of a job that neither fires nor is fed needs a schedule. Raises UnknownJob, InvalidRequest,
    JobRetired, before anything is made. The reference: `create_tasks(policy="recurring")`.
    """
    rows = list(wanted)
    return adding.add_targets(rows, jobs_named({each.job for each in rows}), now=clock.now())


def get_targets(target_ids: Iterable[int]) -> list[Target]:
    """Give targets by id, in that order; unknown ones are left out. The reference: `get_tasks`."""
    ids = list(target_ids)
    found: dict[int, Target] = {}
    for begin in range(0, len(ids), adding.BATCH):
        found |= Target.objects.select_related("job").in_bulk(ids[begin : begin + adding.BATCH])
    return [found[target_id] for target_id in ids if target_id in found]


def search_targets(
    *,
    job: OneOrMany[str] | None = None,
    key: OneOrMany[str] | None = None,
    key_prefix: OneOrMany[str] | None = None,
    state: OneOrMany[StateOf] | None = None,
    outcome: OneOrMany[str] | None = None,
    paused: bool | None = None,
    source: OneOrMany[str] | None = None,
    due_before: datetime | None = None,
    due_after: datetime | None = None,
    failing: bool | None = None,
    order: str = "id",
    limit: int = ROWS,
    after: str | None = None,
) -> Page[Target]:
    """Give a page of the targets for which all that is given holds.

    `outcome` of the newest result: changed, unchanged, missing, failed, or never: there is none.
    `source`: the name of the one that named it first. Bounds of the next fire time are included.
    `failing`: the newest result did not find it. Orders: id, job, key, created_at, next_fire_at,
    last_scheduled_at, last_started_at, last_ended_at, observed_at, found_at, hint_at, position,
    level; with a leading - descending; without a value last. Raises InvalidRequest. The reference:
    `search_tasks`.
    """
    asked = among("job__name", job) & among("key", key) & among("source__name", source)
    asked &= between("next_fire_at", after=due_after, before=due_before)
    if key_prefix is not None:
        prefixes = [key_prefix] if isinstance(key_prefix, str) else key_prefix
        asked &= _any_of(Q(key__startswith=prefix) for prefix in prefixes)
    states = words("state", state, STATES)
    if states is not None:
        asked &= _any_of(_IN_STATE[each] for each in states)
    outcomes = words("outcome", outcome, OUTCOMES)
    if outcomes is not None:
        asked &= _any_of(_with_outcome(each) for each in outcomes)
    if paused is not None:
        asked &= Q(paused_at__isnull=not paused)
    if failing is not None:
        is_failing = Q(misses__gt=0) | Q(failing_since__isnull=False)
        asked &= is_failing if failing else ~is_failing
    rows = Target.objects.filter(asked).select_related("job")
    return page(rows, order=order, orders=ORDERS, limit=limit, after=after)


_IN_STATE = {
    ACTIVE: Q(retired_at__isnull=True, paused_at__isnull=True),
    PAUSED: Q(retired_at__isnull=True, paused_at__isnull=False),
    RETIRED: Q(retired_at__isnull=False),
}


def _any_of(conditions: Iterable[Q]) -> Q:
    asked = Q(pk__in=())
    for condition in conditions:
        asked |= condition
    return asked


def _with_outcome(outcome: str) -> Q:
    if outcome == NEVER:
        return Q(last_state="")
    if outcome == FAILED:
        return Q(last_state=State.FAILED)
    return Q(last_state=State.SUCCEEDED, last_outcome=outcome)


def set_targets(
    target_ids: Iterable[int],
    state: StateOf,
    *,
    except_completed: bool = False,
    reason: str = "",
    by: str = BY,
) -> list[Target]:
    """Make targets active, paused or retired; give those that this has changed, by id.

    Active: a pause ends, with new chances, and a retired target is put back; what it has missed is
    skipped. `except_completed`: those to which nothing more comes are left as they are. Unknown ids
    are left out. Raises InvalidRequest. The reference: `set_status_tasks`, `disable_tasks`; that a
    target is in flight its runs say.
    """
    words("state", state, STATES)
    ids = sorted(set(target_ids))
    changed = []
    for begin in range(0, len(ids), adding.BATCH):
        rows = Target.objects.filter(pk__in=ids[begin : begin + adding.BATCH])
        if except_completed:
            rows = rows.exclude(pk__in=completed(rows).values("pk"))
        for target in rows.select_related("job", "resource").order_by("pk"):
            if _set_target(target, state, reason=reason, by=by):
                changed.append(target)
    return changed


def completed(targets: TargetQuerySet) -> TargetQuerySet:
    """Those that have come to the end of their schedule: nothing of them is open or to come."""
    by_hand = Q(schedule=adding.BY_HAND) | Q(schedule="", job__schedule=adding.BY_HAND)
    ended = targets.filter(next_fire_at=None, parked="", eligible_at=None, eligible_since=None)
    return ended.exclude(by_hand).exclude(Exists(Run.objects.open().filter(target=OuterRef("pk"))))


def _set_target(target: Target, state: str, *, reason: str, by: str) -> bool:
    now = clock.now()
    if state == PAUSED:
        return runs.pause(target, by=by, reason=reason, now=now)
    if state == RETIRED:
        return runs.retire_target(target, now=now)
    revived = runs.revive_target(target, now=now)
    return runs.resume(target, by=by, now=now) or revived
