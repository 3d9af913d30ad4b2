"""Which jobs hold resources that a job holds, and how long their runs take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Avg, DurationField, ExpressionWrapper, F, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce

from scheduling import zones
from scheduling.clashes import MOST_OTHERS, SHORTEST_RUN, Holder
from scheduling.errors import InvalidSchedule
from scheduling.models import Job, Resource, Run, State, Target
from scheduling.runs.cursors import schedule_of

LAST_RUNS = 10
# More are not looked at: this is asked with every few letters that somebody types.
MOST_KEYS = 200
MOST_JOBS = 5_000
MOST_TARGETS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """What a job holds and for how long, and who else wants some of it."""

    locks: frozenset[str] = frozenset()
    duration: timedelta = SHORTEST_RUN
    others: tuple[Holder, ...] = ()


def sharing_with(job: Job) -> Sharing:
    """Ask for the jobs that share resources with one as it stands, saved or not: four queries."""
    keys = set(job.locks)
    if job.pk is not None and job.lock_resource:
        own = Resource.objects.filter(targets__job=job, targets__retired_at__isnull=True)
        keys.update(own.order_by("key").values_list("key", flat=True).distinct()[:MOST_KEYS])
    if not keys:
        return Sharing()
    targets = _targets_that_hold(keys, but=job)
    took = durations([target.job_id for target in targets] + ([job.pk] if job.pk else []))
    return Sharing(
        locks=frozenset(keys),
        duration=took.get(job.pk, SHORTEST_RUN),
        others=tuple(_holders(targets, keys, took)),
    )


def durations(jobs: Iterable[int]) -> dict[int, timedelta]:
    """What the last ten successful runs took on average: pk -> span, where there are any."""
    done = Run.objects.filter(
        job=OuterRef("pk"), state=State.SUCCEEDED, started_at__isnull=False, ended_at__isnull=False
    )
    tenth = done.order_by("-created_at").values("created_at")[LAST_RUNS - 1 : LAST_RUNS]
    span = ExpressionWrapper(F("ended_at") - F("started_at"), output_field=DurationField())
    lately = done.filter(created_at__gte=OuterRef("since")).order_by().values("job")
    return dict(
        Job.objects.filter(pk__in=jobs)
        .annotate(since=Coalesce(Subquery(tenth), Value(zones.FIRST_MOMENT)))
        .annotate(took=Subquery(lately.annotate(took=Avg(span)).values("took")))
        .filter(took__isnull=False)
        .values_list("pk", "took")
    )


def _targets_that_hold(keys: set[str], *, but: Job) -> list[Target]:
    # No database that is supported can ask for an element in common by an index.
    locking = Job.objects.active().exclude(pk=but.pk).exclude(locks=[]).order_by("name")
    lockers = [
        pk for pk, locks in locking.values_list("pk", "locks")[:MOST_JOBS] if keys & set(locks)
    ]
    found = Target.objects.filter(
        Q(job__in=lockers[:MOST_OTHERS]) | Q(job__lock_resource=True, resource__key__in=keys),
        job__retired_at__isnull=True,
        retired_at__isnull=True,
    )
    return list(
        found.exclude(job=but.pk)
        .select_related("job__calendar", "resource")
        .order_by("job__name", "key")[:MOST_TARGETS]
    )


def _holders(
    targets: Iterable[Target], keys: set[str], took: dict[int, timedelta]
) -> Iterable[Holder]:
    """Yield up to MOST_OTHERS; the targets of one job that fire and hold alike count as one."""
    seen = set()
    for target in targets:
        job = target.job
        held = keys & set(job.locks)
        if job.lock_resource and target.resource is not None:
            held |= keys & {target.resource.key}
        alike = (job.pk, target.schedule_text, frozenset(held))
        if alike in seen:
            continue
        seen.add(alike)
        try:
            schedule = schedule_of(target, job)
        except InvalidSchedule:
            continue  # it does not fire
        if schedule.is_anchored:
            yield Holder(
                name=target.name,
                schedule=schedule,
                locks=frozenset(held),
                duration=took.get(job.pk, SHORTEST_RUN),
                starts_at=job.starts_at,
                ends_at=job.ends_at,
            )
        if len(seen) == MOST_OTHERS:
            return
