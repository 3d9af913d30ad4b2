"""What `/metrics` says of coverage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily

from scheduling import measures
from scheduling.coverage import Coverage, coverage

# With more pairs of a job and a source than this, sources are left out: each is several series.
MOST_PAIRS = 100


def families(now: datetime) -> Iterator[Metric]:
    """Give what is counted, for each job and, if they are few, for each source of each."""
    jobs = coverage(now=now)
    yield targets(jobs)
    pairs = [part for each in jobs for part in each.sources]
    if len(pairs) <= MOST_PAIRS:
        yield targets_of_sources(pairs)
    yield oldest(jobs)
    yield lag(jobs)
    yield first_success(jobs)


def targets(jobs: list[Coverage]) -> Metric:
    family = GaugeMetricFamily(
        "jobs_coverage_targets",
        "Targets with a key, by how they stand: a target counts in each measure that it meets.",
        labels=["job", "measure"],
    )
    for each in jobs:
        for measure in measures.STANDING:
            family.add_metric([each.job, measure], each.counts.get(measure, 0))
    return family


def targets_of_sources(pairs: list[Coverage]) -> Metric:
    family = GaugeMetricFamily(
        "jobs_coverage_source_targets",
        "The same, by the source that named the target first; left out if there are many.",
        labels=["job", "source", "measure"],
    )
    for each in pairs:
        for measure in measures.STANDING:
            family.add_metric([each.job, each.source or "", measure], each.counts.get(measure, 0))
    return family


def oldest(jobs: list[Coverage]) -> Metric:
    family = GaugeMetricFamily(
        "jobs_oldest_never_checked_seconds",
        "Seconds since the oldest active target that was never found was named; 0: there is none.",
        labels=["job"],
    )
    for each in jobs:
        age = each.oldest_never_checked
        family.add_metric([each.job], age.total_seconds() if age else 0.0)
    return family


def lag(jobs: list[Coverage]) -> Metric:
    """As the buckets of a histogram; a gauge, as targets also leave them."""
    family = GaugeMetricFamily(
        "jobs_coverage_lag_seconds_bucket",
        "Stale targets whose lag is at most `le` seconds; for histogram_quantile.",
        labels=["job", "le"],
    )
    for each in jobs:
        for bound, number in cumulative(each.lag):
            family.add_metric([each.job, bound], number)
    return family


def first_success(jobs: list[Coverage]) -> Metric:
    family = HistogramMetricFamily(
        "jobs_first_success_seconds",
        "Seconds from when a target was named until it was found for the first time.",
        labels=["job"],
    )
    for each in jobs:
        total = each.first_success_total.total_seconds()
        family.add_metric([each.job], list(cumulative(each.first_success)), total)
    return family


def cumulative(buckets: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Turn bucket -> number into (upper bound in seconds, number at or below it)."""
    bounds = [*(str(bound.total_seconds()) for bound in measures.BOUNDS.values()), "+Inf"]
    yield from zip(bounds, accumulate(buckets.values()), strict=True)
