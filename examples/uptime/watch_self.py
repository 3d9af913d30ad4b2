"""Endpoints that are there from the first start: the installation itself."""

from __future__ import annotations

from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

from examples.uptime.conf import conf
from examples.uptime.endpoints import CHECK, RELIABILITY, save_endpoint
from examples.uptime.models import Endpoint
from scheduling import clock
from scheduling.models import Job, Target

# name, address
OURSELVES = (
    ("beatkeeper web", "$WEB_URL/healthz"),
    ("beatkeeper flower", "$FLOWER_URL/healthcheck"),
    ("beatkeeper broker", "$REDIS_URL"),
)
FREQUENCY = "every 30s"


def after_migrate(using: str = DEFAULT_DB_ALIAS, **kwargs: Any) -> None:
    """Add them once the jobs are synced, if there has never been an endpoint.

    Called after each migrated app; the sync of the jobs comes with the last one.
    """
    if not conf.WATCH_SELF or using != DEFAULT_DB_ALIAS:
        return
    tables = {model._meta.db_table for model in (Endpoint, Job, Target)}
    if not tables <= set(connections[using].introspection.table_names()):
        return
    # An endpoint that was deleted has left its target.
    if Endpoint.objects.exists() or Target.objects.filter(job__name=CHECK).exists():
        return
    if Job.objects.active().filter(name__in=(CHECK, RELIABILITY)).count() < 2:
        return
    for name, address in OURSELVES:
        endpoint = Endpoint(name=name, address=address, schedule=FREQUENCY, tags="beatkeeper")
        save_endpoint(endpoint, by="the first start", now=clock.sample())
