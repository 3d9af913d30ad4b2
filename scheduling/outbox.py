"""Publishing: what is ready, queued and unpublished goes to the broker, after the commit."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from celery import Celery
from django.db.models import F

from scheduling import batching, broker
from scheduling.batching import THEIR_OWN_ARGUMENTS
from scheduling.conf import conf
from scheduling.db import update_free
from scheduling.feeds import EXPRESS
from scheduling.limits import limits_of
from scheduling.message_headers import BATCH_HEADER, RUN_HEADER
from scheduling.models import Job, Reason, Run
from scheduling.models.job import Kind
from scheduling.models.run import OUTSIDE
from scheduling.runs import refuse
from scheduling.services import queue_of

logger = logging.getLogger(__name__)

COMMAND_TASK = "workers.commands.run_command"
# So long a beat that took entries out may need to publish and stamp them.
RESERVED = timedelta(seconds=5)
PASSED_ON = ("queue", "exchange", "routing_key", "priority")


def publish_ready(app: Celery, *, epoch: str, now: datetime) -> int:
    """Publish what is ready and that nobody else is publishing; give how many were sent."""
    ids = _first_of_lanes(now, limit=conf.PUBLISH_BATCH)
    if not ids:
        return 0
    # Each beat's `now` differs, so the moment says which beat has reserved an entry.
    reserved_until = now + RESERVED
    update_free(
        Run.objects.to_publish(now).order_by().filter(pk__in=ids), publish_at=reserved_until
    )
    mine = Run.objects.filter(pk__in=ids, publish_at=reserved_until, published_at=None)
    place = {pk: number for number, pk in enumerate(ids)}
    runs = sorted(mine.select_related("job", "target"), key=lambda run: place[run.pk])
    return publish(app, runs, epoch=epoch, now=now)


def _first_of_lanes(now: datetime, *, limit: int) -> list[UUID]:
    """Ids of what is ready, lane by lane, in each by time.

    Two questions, each in the order of an index: sorted as a whole, a long outbox would be read and
    sorted anew for each batch.
    """
    ready = Run.objects.to_publish(now)
    lanes = ready.filter(priority__isnull=False).order_by("priority", "publish_at")
    ids = list(lanes.values_list("pk", flat=True)[:limit])
    if len(ids) < limit:
        normal = ready.filter(priority__isnull=True)
        ids += normal.values_list("pk", flat=True)[: limit - len(ids)]
    return ids


def publish(app: Celery, runs: Sequence[Run], *, epoch: str, now: datetime) -> int:
    """Send runs (with job and target loaded) and stamp them; give how many were sent.

    If the broker fails, nothing is stamped, and any beat tries again after a few seconds; what
    did get through is then delivered twice, and the worker's guard drops the second.
    """
    runs = [run for run in runs if run.waiting_on_id is None]
    if not runs:
        return 0
    failures = broker.errors(app)
    try:
        with app.producer_or_acquire() as producer:
            broker.connect(producer.connection)
            with producer.batch(conf.PUBLISH_BATCH):
                sent = [
                    run
                    for bundle in batching.bundles(runs)
                    if _send(app, producer, bundle, failures=failures, now=now)
                    for run in bundle
                ]
    except failures as error:
        logger.warning("Broker unreachable, %s runs stay in the outbox: %s", len(runs), error)
        return 0
    _stamp(sent, epoch=epoch, now=now)
    return len(sent)


def _send(
    app: Celery,
    producer: Any,
    bundle: Sequence[Run],
    *,
    failures: tuple[type[Exception], ...],
    now: datetime,
) -> bool:
    """Send runs by one message. `failures` are the broker's; any other error is theirs only."""
    run = bundle[0]
    job = run.job
    if job is None:
        return False
    if run.queue == OUTSIDE:
        return True
    task = task_of(job)
    arguments, options = _arguments(run, job), _options(run, job)
    # What the job asks for holds among runs without a lane.
    if run.priority is not None or "priority" not in options:
        options["priority"] = broker.priority_of(app, run.priority)
    if len(bundle) > 1:
        options["headers"][BATCH_HEADER] = [[str(each.pk), each.attempt] for each in bundle]
    try:
        if app.conf.task_routes and "queue" not in options:
            queue = _routed_to(app, task, arguments, options)
            for each in bundle:
                each.queue = queue
        app.send_task(task, **arguments, **options, producer=producer, retry=False)
    except failures:
        raise
    except Exception as error:
        logger.exception("Run %s of %s cannot be published", run.pk, job.name)
        for each in bundle:
            refuse(
                each.pk,
                each.attempt,
                reason=Reason.PERMANENT,
                error=f"It cannot be published: {type(error).__name__}: {error}; "
                "correct the job's arguments or options",
                now=now,
            )
        return False
    return True


def task_of(job: Job) -> str:
    """The Celery task that messages for the job's runs name."""
    return job.task if job.kind == Kind.TASK else COMMAND_TASK


def _routed_to(app: Celery, task: str, arguments: Any, options: Any) -> str:
    """The queue that the app's `task_routes` choose, "" for the default one.

    Noted in the run, or its message would be missed on the wrong queue.
    """
    queue = app.amqp.router.route(dict(options), task, **arguments).get("queue")
    name = str(getattr(queue, "name", queue) or "")
    return "" if name == app.conf.task_default_queue else name


def _arguments(run: Run, job: Job) -> dict[str, Any]:
    if job.declared_in not in THEIR_OWN_ARGUMENTS:
        return {"args": [str(run.pk), run.attempt], "kwargs": {}}
    own = run.target.kwargs if run.target is not None else {}
    return {"args": job.args, "kwargs": {**job.kwargs, **own, **run.kwargs}}


def _options(run: Run, job: Job) -> dict[str, Any]:
    options: dict[str, Any] = {
        name: job.options[name] for name in PASSED_ON if job.options.get(name) not in (None, "")
    }
    # What goes through the express lane has its queue from there.
    if queue := run.queue if run.strategy == EXPRESS else queue_of(job):
        options["queue"] = queue
    options["task_id"] = str(run.pk)
    headers = job.options.get("headers") or {}
    options["headers"] = {**headers, RUN_HEADER: [str(run.pk), run.attempt]}
    theirs = job.declared_in in THEIR_OWN_ARGUMENTS
    if theirs and job.hard_limit is None and job.soft_limit is None:
        pass  # Works as it is: the limits of the task itself hold, if it has any.
    elif not job.is_external:
        # Celery's pool ends a task in process; an external one is ended by its own limits.
        limits = limits_of(job)
        for option, limit in (("soft_time_limit", limits.soft), ("time_limit", limits.hard)):
            if limit is not None:
                options[option] = limit.total_seconds()
    return options


def _stamp(runs: Sequence[Run], *, epoch: str, now: datetime) -> None:
    """Mark as published, unless a run has moved on meanwhile (it waits, or is a retry)."""
    alike: dict[tuple[int, datetime | None, str], list[Run]] = defaultdict(list)
    for run in runs:
        alike[run.attempt, run.publish_at, run.queue].append(run)
    for (attempt, publish_at, queue), group in alike.items():
        update_free(
            Run.objects.filter(
                pk__in=[run.pk for run in group],
                attempt=attempt,
                publish_at=publish_at,
                published_at=None,
            ),
            published_at=now,
            published_epoch=epoch,
            publications=F("publications") + 1,
            queue=queue,
            publish_at=None,
        )
