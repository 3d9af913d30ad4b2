"""How well the targets of jobs are covered, as the counts say."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import OuterRef, Q, Subquery, Sum

from scheduling import measures
from scheduling.models import CoverageChange, CoverageCount, Job, Source, Target

KEY = ("job_id", "source", "measure")


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The targets of one job, or those that one source named first.

    `source` is None for all of them and "" for those that no source named. `oldest_never_checked`
    is known for a job only, `listed_at` (the end of the newest listing) for a source only.
    """

    job_id: int
    job: str
    job_is_paused: bool
    source_id: int | None = None
    source: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    oldest_never_checked: timedelta | None = None
    listed_at: datetime | None = None
    sources: tuple[Coverage, ...] = ()

    @property
    def known(self) -> int:
        return self.counts.get(measures.KNOWN, 0)

    @property
    def active(self) -> int:
        return self.counts.get(measures.ACTIVE, 0)

    @property
    def never_checked(self) -> int:
        return self.counts.get(measures.NEVER_CHECKED, 0)

    @property
    def stale(self) -> int:
        return self.counts.get(measures.STALE, 0)

    @property
    def missed(self) -> int:
        """Those of the active whose newest result has not found them: failed, or missing."""
        return self.counts.get(measures.MISSED, 0)

    @property
    def paused(self) -> int:
        return self.counts.get(measures.PAUSED, 0)

    @property
    def lag(self) -> dict[str, int]:
        """Bucket -> stale targets whose lag is in it."""
        return self._buckets(measures.LAG)

    @property
    def first_success(self) -> dict[str, int]:
        """Bucket -> targets found for the first time so long after they were named."""
        return self._buckets(measures.FIRST_SUCCESS)

    @property
    def first_success_total(self) -> timedelta:
        return timedelta(seconds=self.counts.get(measures.FIRST_SUCCESS_SECONDS, 0))

    @property
    def first_success_mean(self) -> timedelta | None:
        happened = sum(self.first_success.values())
        return self.first_success_total / happened if happened else None

    def _buckets(self, prefix: str) -> dict[str, int]:
        return {name: self.counts.get(prefix + name, 0) for name in measures.BUCKETS}

    def as_dict(self) -> dict[str, Any]:
        """Plain values; spans in seconds."""
        mean, oldest = self.first_success_mean, self.oldest_never_checked
        return {
            **({} if self.source is None else {"source": self.source or None}),
            **{name: self.counts.get(name, 0) for name in measures.STANDING},
            "oldest_never_checked": None if oldest is None else oldest.total_seconds(),
            "listed_at": None if self.listed_at is None else self.listed_at.isoformat(),
            "lag": self.lag,
            "first_success": self.first_success,
            "first_success_mean": None if mean is None else mean.total_seconds(),
        }


def coverage(job: str | None = None, source: str | None = None, *, now: datetime) -> list[Coverage]:
    """Give the coverage of each job with counted targets, by name, each with that of its sources.

    Retired jobs are among them only if named. With `source` ("" for no source): of the targets that
    it named first. What is not known gives an empty list.
    """
    jobs = {each.pk: each for each in _jobs(job)}
    known = {each.pk: each for each in Source.objects.only("name", "listing_ended_at")}
    found: defaultdict[int, list[Coverage]] = defaultdict(list)
    for (job_id, source_id), counts in _counts(job, source).items():
        if job_id in jobs and any(counts.values()):
            origin = known.get(source_id)
            name = origin.name if origin else f"deleted source {source_id}" if source_id else ""
            found[job_id].append(
                Coverage(
                    job_id=job_id,
                    job=jobs[job_id].name,
                    job_is_paused=jobs[job_id].is_paused(now),
                    source_id=source_id,
                    source=name,
                    counts=counts,
                    listed_at=origin.listing_ended_at if origin else None,
                )
            )
    if source is not None:
        return [each for pk in jobs for each in found[pk]]
    return [_whole(each, found[pk], now) for pk, each in jobs.items() if found[pk]]


def _whole(job: Any, parts: list[Coverage], now: datetime) -> Coverage:
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.counts)
    return Coverage(
        job_id=job.pk,
        job=job.name,
        job_is_paused=job.is_paused(now),
        counts=counts,
        oldest_never_checked=job.oldest and now - job.oldest,
        sources=tuple(sorted(parts, key=lambda part: part.source or "")),
    )


def _jobs(name: str | None) -> Any:
    never = Target.objects.filter(
        job=OuterRef("pk"), found_at=None, retired_at=None, paused_at=None
    ).exclude(key="")
    oldest = Subquery(never.order_by("created_at").values("created_at")[:1])
    wanted = Q(retired_at=None) if name is None else Q(name=name)
    return Job.objects.filter(wanted).annotate(oldest=oldest).order_by("name")


def _counts(job: str | None, source: str | None) -> dict[tuple[int, int], dict[str, int]]:
    """(job, source) -> counts, with what is noted but not yet added, in one query: so that nothing
    on its way from one to the other is missed or counted twice.
    """
    wanted = Q() if job is None else Q(job__name=job)
    if source is not None:
        named = Source.objects.filter(name=source).values("pk")
        wanted &= Q(source__in=named) if source else Q(source=0)
    summed = CoverageCount.objects.filter(wanted).values_list(*KEY, "value")
    noted = CoverageChange.objects.filter(wanted).order_by().values(*KEY)
    rows = summed.union(noted.annotate(sum=Sum("delta")).values_list(*KEY, "sum"), all=True)
    counts: defaultdict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for job_id, source_id, measure, value in rows:
        # PostgreSQL gives sums as decimals.
        counts[job_id, source_id][measure] += int(value)
    return dict(counts)
