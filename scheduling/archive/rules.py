"""Which runs are old enough to go, page by page, by tokens that neither skip nor repeat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q

from scheduling.conf import conf
from scheduling.errors import ArchiveError
from scheduling.models import Job, Run
from scheduling.models.run import RunQuerySet

PAGE = 500
# Whoever had to do with a run has heard of its end by then, and no checkpoint has it queued.
SETTLED = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What may go: runs that ended before `before`, and all but the newest `keep` of each job.

    None: not by that. Nothing goes that ended less than an hour before `now`.
    """

    now: datetime
    before: datetime | None
    keep: int | None = None

    @property
    def settled(self) -> datetime:
        return self.now - SETTLED

    @property
    def bound(self) -> datetime:
        """All that goes has ended before then."""
        if self.keep is not None or self.before is None:
            return self.settled
        return min(self.before, self.settled)


def rule_of(*, now: datetime, before: datetime | None = None, keep: int | None = None) -> Rule:
    """Give the rule of JOBS_RETENTION, or with another bound. Raises ArchiveError.

    A run goes when it is strictly older than the span: one that ended exactly so long ago stays.
    """
    if before is not None and before > now:
        raise ArchiveError(f"{before.isoformat()} lies ahead; name a time that has passed")
    if before is None and conf.RETENTION is not None:
        before = now - conf.RETENTION
    return Rule(now=now, before=before, keep=keep)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An ended run, with what decides whether it may go, and how many bytes it wrote."""

    id: UUID
    created_at: datetime
    name: str
    job_id: int | None
    target_id: int | None
    root_id: UUID | None
    state: str
    attempt: int
    scheduled_at: datetime
    ended_at: datetime
    output_bytes: int


COLUMNS = tuple(Candidate.__slots__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """`token` begins the page after this one; "": there is none to go on from."""

    runs: Sequence[Candidate]
    token: str


def aged(rule: Rule, *, token: str = "", size: int = PAGE) -> Iterator[Page]:
    """Yield what ended before the rule's bound, the oldest first. Raises ArchiveError.

    No page is empty, and none begins where an earlier one did, however many runs a target has.
    """
    if rule.before is None:
        return
    bound = min(rule.before, rule.settled)
    # By creation, which has an index; no run ends before it is made.
    rows = Run.objects.ended().filter(created_at__lt=bound, ended_at__lt=bound)
    yield from _pages(rows, token, size)


def surplus(rule: Rule, *, size: int = PAGE) -> Iterator[Page]:
    """Yield what is beyond the newest `keep` runs of each job; history of other tasks stays."""
    if rule.keep is None:
        return
    for job_id in Job.objects.order_by("pk").values_list("pk", flat=True):
        rows = Run.objects.ended().filter(job=job_id)
        newest = rows.order_by("-created_at", "-pk").values_list("created_at", "pk")
        first = newest[rule.keep : rule.keep + 1].first()
        if first is not None:
            created_at, pk = first
            beyond = Q(created_at__lt=created_at) | Q(pk__lte=pk)
            rows = rows.filter(beyond, created_at__lte=created_at, ended_at__lt=rule.settled)
            for page in _pages(rows, "", size):
                yield Page(runs=page.runs, token="")


def _pages(rows: RunQuerySet, token: str, size: int) -> Iterator[Page]:
    rows = rows.order_by("created_at", "pk")
    while True:
        after = rows
        if token:
            created_at, pk = _place(token)
            # The first condition for the index, the second for runs that were made together.
            later = Q(created_at__gt=created_at) | Q(pk__gt=pk)
            after = rows.filter(later, created_at__gte=created_at)
        found = [Candidate(*row) for row in after.values_list(*COLUMNS)[:size]]
        if not found:
            return
        token = f"{found[-1].created_at.isoformat()}/{found[-1].id}"
        yield Page(runs=found, token=token)


def _place(token: str) -> tuple[datetime, UUID]:
    time, _, pk = token.partition("/")
    try:
        return datetime.fromisoformat(time), UUID(pk)
    except ValueError:
        raise ArchiveError(f"{token!r} is no token of a page; begin without one") from None
