"""Evidence that messages were lost, and publishing again what they carried.

A run is published again only if the broker surely no longer has its message; workers that are
merely busy are no evidence. A message too many does no harm: the worker's guard drops it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from celery import Celery
from django.db.models import Count, Q

from scheduling import broker
from scheduling.db import update_free
from scheduling.models import Process, ProcessKind, Run, State
from scheduling.models.run import OUTSIDE
from scheduling.runs import lose_foreign

logger = logging.getLogger(__name__)

# How often a beat compares, and so how long a message must be missing to count as lost.
EVERY = timedelta(seconds=5)
# A full comparison by ids, in case other messages on a queue hide the loss of ours.
FULL_EVERY = timedelta(seconds=60)
# Between two publications of one run: 10 s, doubling to 10 min.
BACK_OFF = timedelta(seconds=10)
BACK_OFF_MAX = timedelta(minutes=10)
BATCH = 1000


def published_and_queued() -> Q:
    on_a_broker = ~Q(queue=OUTSIDE)
    return on_a_broker & Q(state=State.QUEUED, published_at__isnull=False, ended_at__isnull=True)


def publish_again(run_ids: Iterable[str], *, now: datetime) -> int:
    """Put runs back into the outbox, as far as they are still queued and published."""
    ids = list(run_ids)
    changed = 0
    for begin in range(0, len(ids), BATCH):
        changed += update_free(
            Run.objects.filter(published_and_queued(), pk__in=ids[begin : begin + BATCH]),
            published_at=None,
            publish_at=now,
        )
    return changed


def forget_other_epochs(epoch: str, *, now: datetime) -> int:
    """The broker lost its memory: everything that was published under another epoch is gone."""
    lost = Run.objects.filter(published_and_queued()).exclude(published_epoch=epoch)
    ids = [str(pk) for pk in lost.order_by("published_at").values_list("pk", flat=True)[:10_000]]
    if not ids:
        return 0
    changed = publish_again(ids, now=now)
    logger.warning("The broker lost its memory: %s runs are published again", changed)
    return changed


class Comparison:
    """What one beat remembers between its comparisons of the database with the broker."""

    def __init__(self) -> None:
        self._missing: dict[str, frozenset[str]] = {}
        self._compared_at: datetime | None = None
        self._read_at: datetime | None = None

    def compare(self, app: Celery, *, now: datetime) -> int:
        """Publish again what was missing on the broker twice in a row; give how many."""
        if self._compared_at is not None and now - self._compared_at < EVERY:
            return 0
        self._compared_at = now
        full = self._read_at is None or now - self._read_at >= FULL_EVERY
        if full:
            self._read_at = now
        queues = (
            Run.objects.filter(published_and_queued())
            .order_by()
            .values_list("queue")
            .annotate(runs=Count("pk"))
        )
        seen: dict[str, frozenset[str]] = {}
        lost: set[str] = set()
        for queue, count in queues:
            missing = self._missing_on(app, queue, count, full=full)
            seen[queue] = missing
            lost |= missing & self._missing.get(queue, frozenset())
        self._missing = seen
        return self._publish_again(lost, now)

    def _missing_on(self, app: Celery, queue: str, count: int, *, full: bool) -> frozenset[str]:
        """Ids of runs that the database has published to a queue that lacks them."""
        name = queue or app.conf.task_default_queue
        held = broker.held(app, name, read=False)
        if held is None:
            # Of a broker that cannot be asked, the back-off alone decides.
            return frozenset() if broker.can_be_asked(app) else _published(queue)
        delivered = self._still_queued(held.delivered)
        suspicious = count - delivered > held.length or bool(self._missing.get(queue))
        if not suspicious and not full:
            return frozenset()
        # The database first: what is published in between must not look missing.
        published = _published(queue)
        held = broker.held(app, name, read=True)
        if held is None or held.waiting is None:
            return frozenset()
        return published - held.waiting - held.delivered

    def _still_queued(self, run_ids: frozenset[str]) -> int:
        return Run.objects.filter(published_and_queued(), pk__in=_uuids(run_ids)).count()

    def _publish_again(self, run_ids: set[str], now: datetime) -> int:
        if not run_ids:
            return 0
        due = [
            str(pk)
            for pk, published_at, publications in Run.objects.filter(
                published_and_queued(), pk__in=list(run_ids)[:10_000]
            ).values_list("pk", "published_at", "publications")
            if published_at is not None and now - published_at >= back_off(publications)
        ]
        changed = publish_again(due, now=now) if due else 0
        if changed:
            logger.warning("%s messages were lost: their runs are published again", changed)
        return changed


def _published(queue: str) -> frozenset[str]:
    ids = Run.objects.filter(published_and_queued(), queue=queue)
    return frozenset(str(pk) for pk in ids.values_list("pk", flat=True))


def back_off(publications: int) -> timedelta:
    doublings = min(max(publications - 1, 0), 10)
    return min(BACK_OFF * (1 << doublings), BACK_OFF_MAX)


def bury_silent_workers(app: Celery, *, silent_since: datetime, now: datetime) -> int:
    """Publish again what workers that died had taken off the broker without beginning it.

    Nothing says which worker holds which delivered message, so after a death all of them are
    published again; there are no more than the fleet has processes, and the guard drops seconds.
    What they did for others, as far as it has a history, is lost.
    """
    lose_foreign(silent_since=silent_since, now=now)
    silent = Process.objects.filter(kind=ProcessKind.WORKER, seen_at__lt=silent_since)
    names = list(silent.values_list("name", flat=True))
    if not names:
        return 0
    queues = Run.objects.filter(published_and_queued()).order_by().values_list("queue", flat=True)
    delivered: set[str] = set()
    for queue in queues.distinct():
        held = broker.held(app, queue or app.conf.task_default_queue, read=False)
        if held is not None:
            delivered |= held.delivered
        elif broker.can_be_asked(app):
            return 0  # It does not answer now: bury them later.
    # One beat's deletion wins; who dies in between repeats this at the next tick.
    changed = publish_again(map(str, _uuids(delivered)), now=now)
    silent.filter(name__in=names).delete()
    logger.warning("Workers fell silent: %s; %s runs published again", ", ".join(names), changed)
    return changed


def _uuids(run_ids: Iterable[str]) -> list[str]:
    """Only what looks like an id of ours: task ids of other people may be anything."""
    return [text for text in run_ids if len(text) == 36 and text.count("-") == 4]
