"""`/metrics`: the state of the installation for Prometheus, read from the database when asked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from django import db
from django.conf import settings
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from scheduling import health, lateness
from scheduling.conf import conf
from scheduling.models import DeadLetter, Process, ProcessKind, Run, Spoilt
from scheduling.views import coverage_figures

# Bounds the cost: the rows of one window are counted, whatever the length of the history.
WINDOW = timedelta(minutes=5)
FORWARDED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_REAL_IP")


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer a member of staff, `Authorization: Bearer <JOBS_METRICS_TOKEN>`, or this machine."""
    if not (has_token(request) or comes_from_here(request) or is_staff(request)):
        return HttpResponse(
            "Send `Authorization: Bearer <JOBS_METRICS_TOKEN>`, or log in to the admin.\n",
            status=403,
            content_type="text/plain; charset=utf-8",
        )
    registry = CollectorRegistry()
    try:
        registry.register(Figures(health.check_now()))
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
    except db.Error:
        return HttpResponse(
            "The database does not answer.\n",
            status=503,
            content_type="text/plain; charset=utf-8",
        )


def has_token(request: HttpRequest) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    token: str = conf.METRICS_TOKEN
    return bool(token) and scheme.lower() == "bearer" and constant_time_compare(given, token)


def comes_from_here(request: HttpRequest) -> bool:
    """Whether a program on this machine asks by itself; a proxy here speaks for strangers."""
    asker = request.META.get("REMOTE_ADDR")
    forwarded = any(header in request.META for header in FORWARDED)
    return asker in ("127.0.0.1", "::1") and not forwarded and not settings.SECURE_SSL_REDIRECT


def is_staff(request: HttpRequest) -> bool:
    # Read last: it asks the database for the session.
    return request.user.is_active and request.user.is_staff


class Figures(Collector):
    """Gauges of one moment, all read from the database: the web process counts nothing itself."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def describe(self) -> list[Metric]:
        return []  # or else registering collects once more

    def collect(self) -> Iterator[Metric]:
        yield self.recent_runs()
        yield self.open_runs()
        yield self.processes()
        yield self.lateness()
        failing = health.failing_targets()
        yield gauge("jobs_failing", "Jobs of which a target is failing.", failing["jobs"])
        yield gauge("jobs_failing_targets", "Targets that are failing.", failing["targets"])
        late = lateness.count_late(self.now)
        yield gauge("jobs_late_targets", "Targets told as late, not started since.", late)
        yield from coverage_figures.families(self.now)
        yield self.dead_letters()
        yield self.checks()

    def recent_runs(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "jobs_recent_runs",
            "Fire times accounted for in the last 5 minutes, by the state and reason they are in.",
            labels=["state", "reason"],
        )
        recent = Run.objects.filter(created_at__gt=self.now - WINDOW).order_by()
        for row in recent.values("state", "reason").annotate(number=Count("pk")):
            family.add_metric([row["state"], row["reason"]], row["number"])
        return family

    def open_runs(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "jobs_open_runs", "Runs that are queued or running.", labels=["state", "queue"]
        )
        rows = Run.objects.open().order_by().values("state", "queue").annotate(number=Count("pk"))
        for row in rows:
            family.add_metric([row["state"], row["queue"]], row["number"])
        return family

    def processes(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "jobs_process_silence_seconds",
            "Seconds since the last sign of a process.",
            labels=["kind", "name"],
        )
        known = Process.objects.values_list("kind", "name", "seen_at")
        for kind, name, seen_at in known.filter(kind__in=ProcessKind.values):
            family.add_metric([kind, name], (self.now - seen_at).total_seconds())
        return family

    def lateness(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "jobs_lateness_seconds",
            "Seconds that the oldest has waited for a beat to claim it, or to publish it.",
            labels=["step"],
        )
        for step, oldest in (
            ("claim", health.oldest_due(self.now)),
            ("publish", health.oldest_unpublished(self.now)),
        ):
            family.add_metric([step], (self.now - oldest).total_seconds() if oldest else 0.0)
        return family

    def dead_letters(self) -> CounterMetricFamily:
        """As kept in the database: deleting some begins the count anew, as a restart would."""
        family = CounterMetricFamily(
            "jobs_dead_letters_total", "Messages that no worker could work on.", labels=["kind"]
        )
        rows = DeadLetter.objects.order_by().values("kind").annotate(number=Count("pk"))
        kept = {row["kind"]: row["number"] for row in rows}
        for kind in Spoilt.values:
            family.add_metric([kind], kept.get(kind, 0))
        return family

    def checks(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "jobs_check_ok", "1 if the check of `jobs health` is ok, else 0.", labels=["check"]
        )
        for check in health.checks(self.now):
            family.add_metric([check.name], float(check.ok))
        return family


def gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, value=value)
