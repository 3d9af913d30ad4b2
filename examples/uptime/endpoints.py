"""Adding, changing and removing endpoints: the row, and the targets that follow it.

Each function is one transaction: either the endpoint and its targets agree, or nothing happened.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from examples.uptime.models import Endpoint
from scheduling import runs
from scheduling.errors import UnknownJob
from scheduling.models import Job, Resource, Run, Target

CHECK = "check_endpoint"
RELIABILITY = "reliability"
INVENTORY = "check_inventory"  # of the endpoints that a file names
# What a person may change; the other columns belong to the checks, which may be writing them now.
EDITABLE = ("address", "schedule", "is_active", "tags", "resource")


def save_endpoint(endpoint: Endpoint, *, by: str, now: datetime) -> None:
    """Store the endpoint; its targets are made, rescheduled, retired or taken up again.

    An endpoint that is new or taken up again is checked at once, then at its frequency.
    Raises InvalidSchedule, UnknownJob.
    """
    with transaction.atomic():
        endpoint.save(update_fields=None if endpoint.pk is None else EDITABLE)
        if not endpoint.is_active:
            _retire(endpoint.name, now=now)
            return
        resource, _ = Resource.objects.get_or_create(key=endpoint.resource_key)
        _follow(_job(RELIABILITY), endpoint.name, resource=None, schedule="", now=now)
        if _follow(
            _job(CHECK), endpoint.name, resource=resource, schedule=endpoint.schedule, now=now
        ):
            check_now(endpoint, by=by, now=now)


def delete_endpoint(endpoint: Endpoint, *, now: datetime) -> None:
    """Remove the endpoint with its measurements; its targets are retired, their history stays."""
    with transaction.atomic():
        _retire(endpoint.name, now=now)
        endpoint.delete()


def check_now(endpoint: Endpoint, *, by: str, now: datetime) -> Run:
    """Ask for one check beside the schedule. Raises UnknownTarget if it never was active."""
    job = _job(INVENTORY if endpoint.is_listed else CHECK)
    return runs.trigger(job, key=endpoint.name, by=by, now=now)


def targets_of(names: list[str]) -> dict[str, Target]:
    """Name of an endpoint -> the target of its checks."""
    found = Target.objects.filter(job__name__in=(CHECK, INVENTORY), key__in=names)
    # An endpoint that was added by hand once and is listed now has two; one is retired.
    in_use_last = sorted(found, key=lambda target: target.retired_at is None)
    return {target.key: target for target in in_use_last}


def _follow(job: Job, key: str, *, resource: Resource | None, schedule: str, now: datetime) -> bool:
    """Make the target as it has to be; give whether it is new or was taken up again."""
    is_new = not Target.objects.filter(job=job, key=key).exists()
    target = runs.add_target(job, key, resource=resource, schedule=schedule, now=now)
    was_retired = runs.revive_target(target, now=now)
    if target.schedule != schedule:
        runs.reschedule_target(target, schedule=schedule, now=now)
    if target.resource_id != (resource and resource.pk):
        Target.objects.filter(pk=target.pk).update(resource=resource)
    return is_new or was_retired


def _retire(key: str, *, now: datetime) -> None:
    for target in Target.objects.filter(job__name__in=(CHECK, RELIABILITY), key=key):
        runs.retire_target(target, now=now)


def _job(name: str) -> Job:
    job = Job.objects.active().filter(name=name).first()
    if job is None:
        raise UnknownJob(f"Job {name!r} is not in the database; run manage.py jobs sync")
    return job
