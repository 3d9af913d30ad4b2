"""Checking one endpoint, and what is made of it: the last state, a measurement, reliability."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Count, Q

from examples.uptime import addresses, probes
from examples.uptime.conf import conf
from examples.uptime.models import Endpoint, Measurement
from examples.uptime.probes import InvalidProbe, ProbeResult


class CheckFailed(Exception):
    """At least one probe of the endpoint failed; the message says which, the first one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What all probes of an endpoint found together."""

    results: tuple[ProbeResult, ...]

    @property
    def ok(self) -> bool:
        return all(result.ok for result in self.results)

    @property
    def response_ms(self) -> float | None:
        """How long the slowest probe took; None if one failed."""
        return max(result.response_ms for result in self.results) if self.ok else None

    @property
    def message(self) -> str:
        """What is wrong or, if nothing is, what was found; one line."""
        told = [result.message for result in self.results if result.ok is self.ok]
        return "; ".join(told)[:1000]

    @property
    def fingerprint(self) -> str:
        """What it is compared by with other checks; response times are no part of it."""
        marks = "\n".join(result.mark for result in self.results)
        return hashlib.sha256(marks.encode()).hexdigest()


def look(endpoint: Endpoint) -> Check:
    """Ask all probes of the endpoint, one after another; writes nothing."""
    asked = [
        (probe.kind, probe.expects, probe.address or endpoint.address)
        for probe in endpoint.probes.all()
    ]
    if not asked:
        try:
            asked = [
                (probes.default_kind(addresses.expand(endpoint.address)), "", endpoint.address)
            ]
        except InvalidProbe as error:
            return Check(results=(ProbeResult(ok=False, message=str(error), response_ms=0),))
    return ask(asked)


def ask(asked: Sequence[tuple[str, str, str]]) -> Check:
    """Ask probes, each (kind, expects, address), one after another; writes nothing."""
    return Check(
        results=tuple(
            probes.run(kind, expects, addresses.expand(address), timeout=conf.PROBE_TIMEOUT)
            for kind, expects, address in asked
        )
    )


def record(endpoint: Endpoint, check: Check, *, run_id: UUID, now: datetime) -> bool:
    """Write what a run found; give whether it differs from what the run before found.

    Once per run: a second attempt of it replaces what the first one has written.
    """
    others = Measurement.objects.filter(endpoint=endpoint).exclude(run_id=run_id)
    with transaction.atomic():
        before = others.order_by("-measured_at").values_list("ok", flat=True).first()
        Measurement.objects.update_or_create(
            run_id=run_id,
            defaults={
                "endpoint": endpoint,
                "measured_at": now,
                "ok": check.ok,
                "response_ms": check.response_ms,
                "message": check.message,
            },
        )
        Endpoint.objects.filter(pk=endpoint.pk).update(
            is_up=check.ok,
            checked_at=now,
            response_ms=check.response_ms,
            message=check.message,
        )
    return before is not check.ok


def compute_reliability(endpoint: Endpoint) -> float:
    """Write and give the share of good checks among those that are kept, in per cent.

    0 and 100 are exact: none or all of them. Without any check it is 0.
    """
    counted = endpoint.measurements.aggregate(total=Count("pk"), good=Count("pk", Q(ok=True)))
    value = 100 * counted["good"] / counted["total"] if counted["total"] else 0.0
    Endpoint.objects.filter(pk=endpoint.pk).update(reliability=value)
    return value


def forget(*, now: datetime) -> int:
    """Delete measurements older than UPTIME_KEEP; give how many."""
    deleted, _ = Measurement.objects.filter(measured_at__lt=now - conf.KEEP).delete()
    return deleted
