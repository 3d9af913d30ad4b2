"""Selecting: targets leave the pool and get a run each, in one transaction; nobody takes one twice.

On PostgreSQL that is one statement, whose cost does not depend on how many targets there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from datetime import datetime
from fractions import Fraction
from functools import cache, lru_cache, partial
from math import ceil
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import BooleanField, F, OuterRef, Q, Subquery
from django.db.models.expressions import RawSQL

from scheduling import strategies
from scheduling.db import short_transaction, skip_locked
from scheduling.errors import JobRetired, NotFed
from scheduling.feeds import EXPRESS, LONGEST_STRATEGY, WITHOUT_HINT, Cooldowns, Feed
from scheduling.models import Cause, Feeder, Job, Outcome, Run, Source, State, Target
from scheduling.models.target import TargetQuerySet
from scheduling.runs import make
from scheduling.runs.pool import WHILE_BUSY, feed_of


class Pick(NamedTuple):
    """A target that a strategy has picked, and its run; a dry run makes none."""

    target_id: int
    key: str
    strategy: str
    run_id: UUID | None = None


# Of a claim: the run, its target, the target's key and position.
_Claimed = tuple[UUID, int, str, int | None]


class _Stage(NamedTuple):
    """Targets in their order, and how PostgreSQL locks the first free ones of them: a statement
    that lacks their number, its last parameter.
    """

    targets: TargetQuerySet
    sql: str
    params: tuple[Any, ...]


def select(
    job: Job,
    strategy: str,
    count: int,
    *,
    now: datetime,
    source: Source | None = None,
    cooldowns: Cooldowns | None = None,
    sample: float | None = None,
    dry_run: bool = False,
) -> list[Pick]:
    """Pick up to `count` targets of a fed job, first things first, and queue a run for each.

    `cooldowns` (default: those of the job's feed, by which the pool is kept) are looked up target
    by target: slower, for a person who asks. `sample`: look at this fraction of the targets only.
    A dry run marks nothing, and shows who may be picked at `now`, which may be another time than
    the present: slower, too. Raises NotFed, JobRetired, UnknownStrategy, ValueError for a count
    below 0.
    """
    if count < 0:
        raise ValueError(f"count is {count!r}; give 0 or more")
    feed = feed_of(job)
    if feed is None:
        raise NotFed(f"Job {job.name!r} is not fed, so nothing of it is picked; give it a feed")
    if job.retired_at is not None:
        raise JobRetired(f"Job {job.name!r} is retired; declare it again to pick from it")
    strategies.require_known(strategy)
    is_usual = cooldowns in (None, feed.cooldowns)

    def stages() -> list[TargetQuerySet]:
        if cooldowns is not None and not is_usual:
            targets = outside_cooldowns(job, cooldowns, now=now)
        else:
            targets = _pool_at(job, now) if dry_run else strategies.pool_of(job.pk)
        if sample is not None:
            targets = _sampled(targets, sample)
        return strategies.stages(strategy, targets, now=now, source=source)

    if dry_run:
        first = _first(stages(), count)
        return [Pick(target_id=pk, key=key, strategy=strategy) for pk, key in first]
    found: list[_Claimed] = []
    # Lost with the server, a pick is in the pool again; its start is flushed together with it.
    with short_transaction(durable=False, in_index_order=True):
        if is_usual and sample is None and source is None and strategies.is_fixed(strategy):
            prepared = _of_pool(strategy, job.pk)
        else:
            # Asked for in here: a team's own strategy may fail at a statement of its own.
            prepared = _prepared(stages())
        for stage in prepared:
            if len(found) < count:
                found += _claim(job, feed, stage, count - len(found), strategy=strategy, now=now)
    # Afterwards: a feeder that is at work holds its row, and may wait for our targets.
    if strategy == WITHOUT_HINT and found:
        with short_transaction(durable=False):
            _move_clock(job, max(position or 0 for _, _, _, position in found))
    return [Pick(target_id, key, strategy, run_id) for run_id, target_id, key, _ in found]


def _pool_at(job: Job, now: datetime) -> TargetQuerySet:
    """Who is in the pool at another time, if nothing happens but that cooldowns end."""
    return Target.objects.filter(
        Q(eligible_since__lte=now) | Q(eligible_at__lt=now), job=job, next_fire_at=None
    )


def outside_cooldowns(job: Job, cooldowns: Cooldowns, *, now: datetime) -> TargetQuerySet:
    """The targets of a job that these cooldowns let be picked: `eligible_from` as a query.

    What is paused, retired or has an open run is left out.
    """
    targets = Target.objects.filter(
        Q(resource=None) | Q(resource__paused_at=None),
        Q(not_before=None) | Q(not_before__lt=now),
        job=job,
        retired_at=None,
        paused_at=None,
        next_fire_at=None,
    )
    picked, observed = Q(last_scheduled_at=None), Q(observed_at=None)
    if cooldowns.absolute is not None:
        targets = targets.filter(picked | Q(last_scheduled_at__lt=now - cooldowns.absolute))
    if cooldowns.in_flight is not None:
        picked_at = F("last_scheduled_at")
        has_come = Q(observed_at__gt=picked_at)
        has_come |= Q(last_ended_at__gt=picked_at) | Q(last_skipped_at__gt=picked_at)
        over = Q(last_scheduled_at__lt=now - cooldowns.in_flight)
        targets = targets.filter(picked | has_come | over)
    failed = Q(last_state=State.FAILED)
    missing = ~failed & Q(last_outcome=Outcome.MISSING)
    for kind, span in ((failed, cooldowns.failed), (missing, cooldowns.missing)):
        if span is not None:
            targets = targets.filter(observed | ~kind | Q(observed_at__lt=now - span))
    return _without_open_run(targets)


def _without_open_run(targets: TargetQuerySet) -> TargetQuerySet:
    return targets.alias(open_run=_open_run()).filter(open_run=None)


def _open_run() -> Subquery:
    """A run of the target that has not ended.

    Not by EXISTS: PostgreSQL may answer that by reading all open runs, once for each claim.
    """
    return Subquery(Run.objects.open().filter(target=OuterRef("pk")).values("pk")[:1])


def _sampled(targets: TargetQuerySet, fraction: float) -> TargetQuerySet:
    """That fraction of `targets`, another one each time: each is in some. To a hundredth, or
    one in so many if it is less than that.
    """
    part = Fraction(fraction).limit_denominator(max(100, ceil(1 / fraction)))
    place = (F("id") + uuid4().int % part.denominator) % part.denominator
    return targets.alias(place=place).filter(place__lt=part.numerator)


def _first(stages: Sequence[TargetQuerySet], count: int) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for stage in stages:
        free = _without_open_run(stage)
        found += free.values_list("pk", "key")[: max(0, count - len(found))]
    return found


@lru_cache(maxsize=1024)
def _of_pool(strategy: str, job_id: int) -> list[_Stage]:
    """Worked out once for each job: that takes longer than to find ten targets."""
    targets = strategies.pool_of(job_id)
    return _prepared(strategies.fixed_stages(strategy, targets))


def _prepared(stages: Sequence[TargetQuerySet]) -> list[_Stage]:
    """Without what picks nothing, whatever is stored: a team's own strategy may give `none()`."""
    found = []
    for targets in stages:
        locked = targets.select_for_update(skip_locked=skip_locked(), no_key=True, of=("self",))
        with suppress(EmptyResultSet):
            sql, params = locked.values("id", "key", "position").query.sql_with_params()
            found.append(_Stage(locked, f"{sql} LIMIT %s", params))
    return found


def _claim(
    job: Job, feed: Feed, stage: _Stage, count: int, *, strategy: str, now: datetime
) -> list[_Claimed]:
    claim = partial(
        _claim_at_once if connection.vendor == "postgresql" else _claim_by_rows,
        template=_template(job, feed, strategy=strategy, now=now),
        until=now + (feed.cooldowns.in_flight or WHILE_BUSY),
        now=now,
    )
    found, taken = claim(stage, count)
    if len(found) < count == taken:
        # Runs that were asked for by hand are open at its head: read past them.
        for idle in _prepared([_without_open_run(stage.targets)]):
            found += claim(idle, count - len(found))[0]
    return found


def _template(job: Job, feed: Feed, *, strategy: str, now: datetime) -> Run:
    """The run that each target gets, but for its target."""
    run = make.queued(Target(job=job), job, scheduled_at=now, cause=Cause.SCHEDULE, now=now)
    run.strategy = strategy[-LONGEST_STRATEGY:]
    if strategy == EXPRESS and feed.express is not None:
        run.queue = feed.express.queue
    return run


def _claim_by_rows(
    stage: _Stage, count: int, *, template: Run, until: datetime, now: datetime
) -> tuple[list[_Claimed], int]:
    """Take up to `count` targets; give those that got a run, and how many were taken.

    One with an open run is left to that run's end, which gives it its next place.
    """
    looked_at = stage.targets.annotate(busy=_open_run())
    rows = list(looked_at.values_list("pk", "key", "busy", "position")[:count])
    found = [(uuid4(), pk, key, position) for pk, key, busy, position in rows if busy is None]
    marked = Target.objects.filter(pk__in=[pk for pk, *_ in rows])
    marked.update(eligible_since=None, eligible_at=until)
    newly = marked.filter(pk__in=[pk for _, pk, *_ in found])
    # A clock that is behind takes no mark back.
    newly.exclude(last_scheduled_at__gt=now).update(last_scheduled_at=now)
    runs = []
    for run_id, pk, key, _ in found:
        run = copy(template)
        run.id, run.target_id, run.key = run_id, pk, key
        runs.append(run)
    Run.objects.bulk_create(runs)
    return found, len(rows)


def _claim_at_once(
    stage: _Stage, count: int, *, template: Run, until: datetime, now: datetime
) -> tuple[list[_Claimed], int]:
    """The same as `_claim_by_rows` without bringing the rows here and back."""
    busy, busy_params = _busy()
    columns, values, params = _insertion(template)
    target, run = Target._meta.db_table, Run._meta.db_table
    sql = f"""
        WITH picked AS MATERIALIZED ({stage.sql}),
        busy AS MATERIALIZED ({busy}),
        marked AS (
            UPDATE {target} AS t
            SET eligible_since = NULL, eligible_at = %s,
                last_scheduled_at = CASE
                    WHEN t.id IN (SELECT * FROM busy) THEN t.last_scheduled_at
                    ELSE greatest(t.last_scheduled_at, %s)
                END
            FROM picked AS p WHERE t.id = p.id
            RETURNING t.id, t.key, t.id IN (SELECT * FROM busy) AS is_busy
        ),
        made AS (
            INSERT INTO {run} ({columns})
            SELECT {values} FROM marked WHERE NOT is_busy
            RETURNING id, target_id
        )
        SELECT made.id, picked.id, picked.key, picked.position
        FROM picked LEFT JOIN made ON made.target_id = picked.id
    """
    with connection.cursor() as cursor:
        cursor.execute(_TARGETS_ARE_LOCKED)
        cursor.execute(sql, [*stage.params, count, *busy_params, until, now, *params])
        rows = cursor.fetchall()
    return [row for row in rows if row[0] is not None], len(rows)


# So that they are not looked up for each of the new runs (migration 0007).
_TARGETS_ARE_LOCKED = "SET LOCAL beatkeeper.picks = 'on'"


@cache
def _busy() -> tuple[str, tuple[Any, ...]]:
    """Which picked targets have an open run.

    In one look, of those alone that are picked, before the new runs are there to be read.
    """
    is_picked = RawSQL("target_id = ANY(ARRAY(SELECT id FROM picked))", [], BooleanField())
    return Run.objects.open().filter(is_picked).values("target").query.sql_with_params()


# Columns of a run that the template does not say, and where they come from.
_OF_EACH_TARGET = {"id": "gen_random_uuid()", "target_id": "id", "key": "key"}


def _insertion(template: Run) -> tuple[str, str, list[Any]]:
    """Columns, values and parameters that insert a run like the template for each target.

    Empty columns are left out: the driver remembers statements of few parameters.
    """
    columns, values, params = list(_OF_EACH_TARGET), list(_OF_EACH_TARGET.values()), []
    for field, column, value in _columns():
        given = getattr(template, field.attname)
        if given is not None:
            columns.append(column)
            values.append(value)
            params.append(field.get_db_prep_save(given, connection))
    return ", ".join(columns), ", ".join(values), params


@cache
def _columns() -> list[tuple[Any, str, str]]:
    """Of the template: a field, its column, and a value of it."""
    found = []
    for field in Run._meta.concrete_fields:
        if field.column not in _OF_EACH_TARGET:
            kind = (field.db_type(connection) or "").partition("(")[0]
            found.append((field, connection.ops.quote_name(str(field.column)), f"%s::{kind}"))
    return found


def _move_clock(job: Job, highest: int) -> None:
    """The virtual clock of a job stands at the highest position that was picked; never back."""
    moved = Feeder.objects.filter(job=job, position__lt=highest).update(position=highest)
    if not moved and highest:
        Feeder.objects.get_or_create(job=job, defaults={"position": highest})
