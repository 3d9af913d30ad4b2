"""Services: jobs that always run, and what sets them apart from the others."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from celery import current_app

from scheduling.conf import conf
from scheduling.models import Job, Process, ProcessKind, Target
from scheduling.schedules import Always

ALWAYS = str(Always())
ELSEWHERE = ("queue", "exchange", "routing_key")  # options that say where messages go


def is_service(job: Job, target: Target | None = None) -> bool:
    """Whether the job, or this target of it, is one that always runs."""
    return ((target.schedule if target is not None else "") or job.schedule) == ALWAYS


def queue_of(job: Job) -> str:
    """The queue that its runs are published to; "" for the one that Celery chooses."""
    if is_service(job) and not any(job.options.get(name) for name in ELSEWHERE):
        return conf.SERVICE_QUEUE
    return job.queue


def unserved(now: datetime) -> dict[str, int]:
    """Queues that no living worker takes messages from: name -> services that wait there."""
    services = Job.objects.active().filter(schedule=ALWAYS, paused_at=None)
    waiting = Counter(queue_of(job) or str(current_app.conf.task_default_queue) for job in services)
    if not waiting:
        return {}
    alive = Process.objects.filter(kind=ProcessKind.WORKER, seen_at__gte=now - conf.lease)
    served = {
        queue
        for detail in alive.values_list("detail", flat=True)
        for queue in detail.get("queues") or ()
    }
    return {queue: number for queue, number in sorted(waiting.items()) if queue not in served}
