"""Sources for tests: declared here, made at once, listed in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from scheduling import Named
from scheduling.models import Job, Source, Target
from scheduling.runs import Result
from scheduling.sources import Listing, Page, SourceDeclaration
from scheduling.sources.progress import run
from tests.factories import make_job


def make_source(name: str = "customers", *jobs: Job, **columns: Any) -> Source:
    source = Source.objects.create(name=name, **columns)
    source.jobs.set(jobs or [make_fed_job()])
    return source


def make_fed_job(name: str = "check", **columns: Any) -> Job:
    return make_job(name, feed={"shares": {"oldest_scheduled": 1}}, **columns)


def names(*keys: str, **fields: Any) -> list[Named]:
    return [Named(key, **fields) for key in keys]


def numbered(count: int, **fields: Any) -> list[Named]:
    return names(*(f"{number:03}" for number in range(count)), **fields)


def lists(
    source: Source,
    items: Iterable[Any] | Callable[[Listing], Iterable[Any]],
    *,
    full: bool = True,
    **fields: Any,
) -> Result:
    """List a source once; `items` are what it names, or its function."""
    function = items if callable(items) else lambda listing: items
    return run(declared(source, function, **fields), is_full=full)


def declared(source: Source, function: Any, **fields: Any) -> SourceDeclaration:
    jobs = tuple(job.name for job in source.jobs.all())
    return SourceDeclaration(
        name=source.name, task="tests.list", jobs=jobs, enumerate=function, **fields
    )


def target(key: str, job: str = "check") -> Target:
    return Target.objects.get(job__name=job, key=key)


def keys(**filters: Any) -> list[str]:
    """The keys of targets that sources have made."""
    found = Target.objects.filter(source__isnull=False, **filters)
    return list(found.order_by("key").values_list("key", flat=True))


class Dies(BaseException):
    """As a killed worker leaves it."""


def dying_after(pages: int, items: Iterator[Any]) -> Iterator[Any]:
    """Give so many pages, then die before another is recorded."""
    for item in items:
        yield item
        pages -= isinstance(item, Page)
        if not pages:
            raise Dies


def key_lists(items: Iterator[Any]) -> list[list[str]]:
    return [[named.key for named in item.items] for item in items if isinstance(item, Page)]
