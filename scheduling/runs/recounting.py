"""Counting coverage anew, from the targets themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from django.db import connection, transaction
from django.db.models import Count, Q, QuerySet, Sum

from scheduling import measures
from scheduling.models import CoverageChange, CoverageCount, Job, Target
from scheduling.runs.coverage import NO_SOURCE

Counts = dict[tuple[int, int, str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A count that was wrong."""

    job_id: int
    source: int
    measure: str
    counted: int
    exact: int


def recount(job: Job | None = None) -> list[Drift]:
    """Count the targets of one job, or of all, and put right what was wrong; give what that was.

    Whoever changes targets goes on meanwhile. All is read as of one moment: the targets, the
    counts, and the noted changes, which are in the new counts and therefore go. Changes that are
    committed later are in neither and stay, to be added. First successes happened once and stand
    in no table: they keep their counts.
    """
    of_job = Q() if job is None else Q(job=job)
    standing = of_job & ~Q(measure__startswith=measures.EVENTS)
    with _one_moment():
        exact = _exact(Target.objects.filter(of_job))
        counted = _counted(standing)
        CoverageChange.objects.filter(standing).delete()
        CoverageCount.objects.filter(standing).delete()
        CoverageCount.objects.bulk_create(
            CoverageCount(job_id=job_id, source=source, measure=measure, value=value)
            for (job_id, source, measure), value in sorted(exact.items())
        )
    return [
        Drift(job_id=key[0], source=key[1], measure=key[2], counted=was, exact=now)
        for key in sorted({**counted, **exact})
        if (was := counted.get(key, 0)) != (now := exact.get(key, 0))
    ]


def count_at_first() -> None:
    """Count what was there before anybody counted, once.

    After an upgrade a worker may have noted changes by then; without counts they are but a part.
    """
    if not CoverageCount.objects.exists() and Target.objects.exclude(key="").exists():
        recount()


@contextmanager
def _one_moment() -> Iterator[None]:
    """See the database as of one moment, at which no change was half added up.

    The moment is that of the first query; before it we wait for whoever adds up, and keep others
    from beginning to.
    """
    with transaction.atomic(durable=True):
        if connection.vendor == "postgresql":
            table = connection.ops.quote_name(CoverageCount._meta.db_table)
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        yield


def _conditions() -> dict[str, Q]:
    """Measure -> which targets it counts: `measures.measures_of`, for the database."""
    active = Q(paused_at=None)
    conditions = {
        measures.KNOWN: Q(),
        measures.ACTIVE: active,
        measures.NEVER_CHECKED: active & Q(found_at=None),
        measures.STALE: active & Q(staleness__isnull=False),
        measures.MISSED: active & Q(misses__gt=0),
        measures.PAUSED: ~active,
    }
    above: timedelta | None = None
    for name in measures.BUCKETS:
        lag = active if above is None else active & Q(staleness__gt=above)
        if name != measures.MORE:
            above = measures.BOUNDS[name]
            lag &= Q(staleness__lte=above)
        conditions[measures.LAG + name] = lag
    return conditions


def _exact(targets: QuerySet[Target]) -> Counts:
    conditions = _conditions()
    # Positions, as the names of measures are no names of columns.
    columns = {
        f"m{position}": Count("pk", filter=condition or None)
        for position, condition in enumerate(conditions.values())
    }
    counted = targets.filter(retired_at=None).exclude(key="").order_by()
    groups = counted.values("job_id", "source_id").annotate(**columns)
    return {
        (job_id, source_id or NO_SOURCE, measure): value
        for job_id, source_id, *values in groups.values_list("job_id", "source_id", *columns)
        for measure, value in zip(conditions, values, strict=True)
        if value
    }


def _counted(standing: Q) -> Counts:
    counted: Counts = {}
    key = ("job_id", "source", "measure")
    summed = CoverageCount.objects.filter(standing).values_list(*key, "value")
    noted = CoverageChange.objects.filter(standing).order_by().values(*key)
    for job_id, source, measure, value in (
        *summed,
        *noted.annotate(value=Sum("delta")).values_list(*key, "value"),
    ):
        counted[job_id, source, measure] = counted.get((job_id, source, measure), 0) + int(value)
    return counted
