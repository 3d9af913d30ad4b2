"""Endpoints, their probes, and one measurement per check.

History is not here: the runs of `check_endpoint` are. A measurement is the number behind a run.
"""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import models

from examples.uptime import addresses, probes
from scheduling.errors import InvalidSchedule
from scheduling.schedules import parse, require_supported

KINDS = {
    "http_status": "HTTP status",
    "body_contains": "body contains",
    "response_time": "response time",
    "tls_expiry": "TLS expiry",
    "tcp_connect": "TCP connect",
    "redis_ping": "Redis ping",
}


class Endpoint(models.Model):
    """Something out there that has to answer.

    `name` is also the key of its targets, so it never changes. What the last check found is
    written by `checks` only; everything else is changed through `endpoints`, or by `inventory` if
    it comes from a file.
    """

    name = models.CharField(max_length=100, unique=True)
    address = models.CharField(
        max_length=1000,
        help_text="https://example.org/path, example.org:22 or redis://host:6379",
    )
    schedule = models.TextField(
        "frequency", default="every 5m", help_text="Such as every 30s, every 5m or cron 0 * * * *"
    )
    is_active = models.BooleanField("active", default=True)
    tags = models.CharField(max_length=200, blank=True, help_text="Words to find it by")
    resource = models.CharField(
        max_length=200,
        blank=True,
        help_text="Those of one resource are checked one at a time; empty: its own",
    )

    # Named by the file UPTIME_ENDPOINTS, which alone says how it is to be checked.
    is_listed = models.BooleanField("from the file", default=False, editable=False)
    is_up = models.BooleanField(null=True, editable=False)
    checked_at = models.DateTimeField(null=True, editable=False)
    response_ms = models.FloatField(null=True, editable=False)
    message = models.CharField(max_length=1000, blank=True, editable=False)
    # Per cent of the measurements that are kept.
    reliability = models.FloatField(default=0, editable=False)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def resource_key(self) -> str:
        return self.resource or f"endpoint {self.name}"

    def clean(self) -> None:
        try:
            self.schedule = str(require_supported(parse(" ".join(self.schedule.split()))))
        except InvalidSchedule as error:
            raise ValidationError({"schedule": str(error)}) from error
        if any(letter.isspace() for letter in self.address):
            raise ValidationError({"address": f"Address {self.address!r} has a space in it"})
        try:
            probes.default_kind(addresses.expand(self.address))
        except probes.InvalidProbe as error:
            raise ValidationError({"address": str(error)}) from error


class Probe(models.Model):
    """One question asked at every check; an endpoint without any gets the usual one."""

    endpoint = models.ForeignKey(Endpoint, models.CASCADE, related_name="probes")
    kind = models.CharField(max_length=20, choices=list(KINDS.items()), default="http_status")
    expects = models.CharField(
        max_length=500,
        blank=True,
        help_text="Status: 200-399; body: a text; time: 800ms; TLS: 14d",
    )
    address = models.CharField(
        max_length=1000, blank=True, help_text="Empty: the address of the endpoint"
    )

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.expects}".strip()

    def clean(self) -> None:
        address = addresses.expand(self.address or self.endpoint.address)
        try:
            probes.read(self.kind, self.expects, address)
        except probes.InvalidProbe as error:
            raise ValidationError({"expects": str(error)}) from error


class Measurement(models.Model):
    """What one run found; a later attempt of the run replaces what an earlier one found."""

    endpoint = models.ForeignKey(Endpoint, models.CASCADE, related_name="measurements")
    run_id = models.UUIDField(unique=True)
    measured_at = models.DateTimeField()
    ok = models.BooleanField()
    # Of the slowest probe; empty if one failed.
    response_ms = models.FloatField(null=True)
    message = models.CharField(max_length=1000)

    class Meta:
        ordering = ("-measured_at",)
        indexes = (
            # Serves reliability: counted in the index alone
            models.Index(fields=("endpoint", "ok"), name="measurements_to_count"),
            # Serves the comparison with the check before
            models.Index(fields=("endpoint", "-measured_at"), name="measurements_of_endpoint"),
            # Serves forgetting
            models.Index(fields=("measured_at",), name="measurements_by_age"),
        )

    def __str__(self) -> str:
        return f"{self.endpoint_id} {self.measured_at:%Y-%m-%d %H:%M:%S}"
